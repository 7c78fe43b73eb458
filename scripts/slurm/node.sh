#!/usr/bin/env bash
# What train.sbatch runs on a node, in the container if there is one; not to be called by hand.
#
#   node.sh ray ATTEMPT LOCAL_DIR                  this node's part of the job's Ray, until it is told to stop
#   node.sh train ATTEMPT LOCAL_DIR MODULE args... wait for all nodes, preflight, training; exits as the training does
#
# ATTEMPT is the attempt's log folder; a file `signal` in it names the signal that the training is to be sent. By
# a file, for Slurm would send it to every process of the step, and to most of them a signal means death.
set -euo pipefail
role=$1 attempt=$2 local_dir=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
node=${SLURMD_NODENAME:-$(hostname)}
exec >"$attempt/$role-$node.log" 2>&1
stop_requested=75 # EX_TEMPFAIL: the same command goes on from here

unset PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED=1 RAY_DEDUP_LOGS=0
# What many processes write at once, or compile for this node's hardware, belongs on its own disk. Where the user has
# put one of them, it stays; the hub's cache (HF_HOME) is left alone: shared, a model is downloaded once, not per node.
cache() { if [ -z "${!1:-}" ]; then export "$1=$local_dir/cache/$2"; fi; }
cache HF_DATASETS_CACHE datasets
cache HF_MODULES_CACHE modules
cache TRITON_CACHE_DIR triton
cache TORCHINDUCTOR_CACHE_DIR inductor
cache TORCH_EXTENSIONS_DIR extensions
cache VLLM_CACHE_ROOT vllm
cache FLASHINFER_WORKSPACE_BASE flashinfer
cache CUDA_CACHE_PATH cuda

ray_node() { # `ray start` in the foreground; its logs are kept with the attempt's, its folder is removed
  local ray_dir=$local_dir/$SLURM_JOB_ID-$SLURM_NODEID result=0
  local common=(--block --disable-usage-stats --node-name="$node" --temp-dir="$ray_dir" --num-cpus="$SLURM_CPUS_ON_NODE")
  # Ports are whatever is free, so that jobs can share a node.
  common+=(--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)
  mkdir -p "$ray_dir"
  local stopped=''
  trap 'stopped=yes' TERM # reaches Ray too, which ends; this script goes on and tidies up
  export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # what could still be waited for has ended before
  # shellcheck disable=SC2206  # options, to be split
  common+=(${LONGRL_RAY_OPTIONS:-})
  if [ "$SLURM_NODEID" = 0 ]; then
    "$LONGRL_PYTHON_COMMAND" -m ray.scripts.scripts start --head --include-dashboard=false \
      --node-ip-address="${LONGRL_RAY%:*}" --port="${LONGRL_RAY##*:}" "${common[@]}" || result=$?
  else
    local until=$((SECONDS + LONGRL_JOIN_TIMEOUT))
    until (exec 3<>"/dev/tcp/${LONGRL_RAY%:*}/${LONGRL_RAY##*:}") 2>/dev/null; do
      [ "$SECONDS" -lt "$until" ] || { echo "node.sh: $node cannot reach Ray's head at $LONGRL_RAY" >&2; exit 1; }
      sleep 1
    done
    "$LONGRL_PYTHON_COMMAND" -m ray.scripts.scripts start --address="$LONGRL_RAY" "${common[@]}" || result=$?
  fi
  cp -rL "$ray_dir/session_latest/logs" "$attempt/ray-$node" 2>/dev/null || true
  rm -rf "$ray_dir"
  [ -n "$stopped" ] || return "$result"
}

supervised() { # a command's exit status; what `signal` asks for is sent to it, once
  local pid sent='' status=0
  "$@" &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    if [ -z "$sent" ] && [ -s "$attempt/signal" ]; then
      sent=$(cat "$attempt/signal")
      kill -s "$sent" "$pid" || true
    fi
    sleep 1
  done
  wait "$pid" || status=$?
  # Ended by the signal itself: it had come before the training could do anything about it, so there is nothing to save.
  if [ -n "$sent" ] && [ "$status" -eq $((128 + $(kill -l "$sent"))) ]; then status=$stop_requested; fi
  return "$status"
}

train() {
  local module=$1 attached
  shift
  mapfile -t nodes < <(tr ' ' '\n' <<<"$LONGRL_NODES")
  export RAY_ADDRESS=$LONGRL_RAY
  supervised "$LONGRL_PYTHON_COMMAND" "$here/wait_for_nodes.py" "$LONGRL_JOIN_TIMEOUT" "${nodes[@]}" || return
  attached=(ray_kwargs.ray_init.num_cpus=null ray_kwargs.ray_init.num_gpus=null ray_kwargs.ray_init.object_store_memory=null)
  if [ "${LONGRL_PREFLIGHT:-1}" = 0 ]; then
    echo "node.sh: LONGRL_PREFLIGHT=0, no preflight on the nodes"
  elif [ "$module" = recipe.longrl.main ]; then
    supervised "$LONGRL_PYTHON_COMMAND" -m recipe.longrl.preflight "${attached[@]}" "$@" || return
  else
    echo "node.sh: no preflight on the nodes, $module checks its runs itself"
  fi
  supervised "$LONGRL_PYTHON_COMMAND" -m "$module" "${attached[@]}" "$@"
}

case "$role" in
  ray) ray_node ;;
  train) train "$@" ;;
esac
