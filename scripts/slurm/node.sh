#!/usr/bin/env bash
# What train.sbatch starts on a node, in the container if there is one; nothing to be called by hand:
#
#   srun bash scripts/slurm/node.sh ray ATTEMPT LOCAL_DIR
#       this node's part of the job's Ray, until it is told to stop
#   srun bash scripts/slurm/node.sh train ATTEMPT LOCAL_DIR MODULE arguments...
#       waits for all nodes, then preflight, then training; exits as the training does
#
# ATTEMPT is the attempt's log folder, ROLE-NODE.log in it this script's output, and a file `signal` in it names the
# signal that the training is to be sent. By a file, for Slurm would send it to every process of a step, and to most
# of Ray's it means death. Variables, from train.sbatch: LONGRL_RAY_ADDRESS, LONGRL_RAY_OPTIONS, LONGRL_NODES,
# LONGRL_PYTHON_COMMAND, LONGRL_JOIN_TIMEOUT, LONGRL_PREFLIGHT; from Slurm: SLURMD_NODENAME.
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac
role=$1 attempt=$2 local_dir=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/../lib.sh"
node=${SLURMD_NODENAME:-$(hostname)}
log=$attempt/$role-$node.log
exec >"$log" 2>&1
stop_requested=75 # EX_TEMPFAIL: the same command goes on from here

unset PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED=1 RAY_DEDUP_LOGS=0
# What many processes write at once, or compile for this node's hardware, belongs on its own disk. Where the user has
# put one of them, it stays; the hub's cache (HF_HOME) is left alone: shared, a model is downloaded once, not per node.
# Most of them hold code that is run, so nobody else may have made the folder.
private "$local_dir" "$local_dir/cache"
cache() { if [ -z "${!1:-}" ]; then export "$1=$local_dir/cache/$2"; fi; }
cache HF_DATASETS_CACHE datasets
cache HF_MODULES_CACHE modules
cache TRITON_CACHE_DIR triton
cache TORCHINDUCTOR_CACHE_DIR inductor
cache TORCH_EXTENSIONS_DIR extensions
cache VLLM_CACHE_ROOT vllm
cache FLASHINFER_WORKSPACE_BASE flashinfer
cache CUDA_CACHE_PATH cuda

ray_start() { # this node's Ray, in the foreground
  local more options=(--block --disable-usage-stats --node-name="$node" --temp-dir="$ray_dir" --num-cpus="$SLURM_CPUS_ON_NODE")
  # Ports are whatever is free, so that jobs can share a node.
  options+=(--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)
  if [ "$SLURM_NODEID" = 0 ]; then
    options+=(--head --include-dashboard=false --node-ip-address="${LONGRL_RAY_ADDRESS%:*}" --port="${LONGRL_RAY_ADDRESS##*:}")
  else
    options+=(--address="$LONGRL_RAY_ADDRESS")
    local until=$((SECONDS + LONGRL_JOIN_TIMEOUT))
    until (exec 3<>"/dev/tcp/${LONGRL_RAY_ADDRESS%:*}/${LONGRL_RAY_ADDRESS##*:}") 2>/dev/null; do
      ((SECONDS < until)) || { echo "node.sh: $node cannot reach Ray's head at $LONGRL_RAY_ADDRESS"; return 1; }
      sleep 1
    done
  fi
  words more "${LONGRL_RAY_OPTIONS:-}" || return
  TMPDIR=$ray_dir/tmp "$LONGRL_PYTHON_COMMAND" "$here/../ray/ray_start.py" "${options[@]}" "${more[@]}"
}

ray_node() { # until told to stop; Ray's logs are kept with the attempt's, for this user alone, its folder is removed
  local ray_dir=$local_dir/$SLURM_JOB_ID-$SLURM_NODEID stopped='' result
  private "$ray_dir" "$ray_dir/tmp"
  trap 'stopped=yes' TERM # reaches Ray too, which ends; this script goes on and tidies up
  export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # what could still be waited for has ended before
  for _ in 1 2 3; do # Ray gives up on a start after 30 s, too soon where files are read for the first time
    result=0
    ray_start || result=$?
    if [ -n "$stopped" ] || grep -q 'Ray runtime started' "$log"; then break; fi
    echo "node.sh: Ray did not start on $node"
  done
  rm -f "$ray_dir"/session_latest/logs/runtime_env* # they have the values of variables
  (umask 077 && cp -rL "$ray_dir/session_latest/logs" "$attempt/ray-$node") 2>/dev/null || true
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
  local module=$1
  shift
  mapfile -t nodes < <(tr ' ' '\n' <<<"$LONGRL_NODES")
  export RAY_ADDRESS=$LONGRL_RAY_ADDRESS TMPDIR=$local_dir/$SLURM_JOB_ID-train
  private "$TMPDIR"
  trap 'rm -rf "$TMPDIR"' EXIT
  supervised "$LONGRL_PYTHON_COMMAND" "$here/../ray/wait_for_nodes.py" "$LONGRL_JOIN_TIMEOUT" "${nodes[@]}" || return
  if [ "${LONGRL_PREFLIGHT:-1}" = 0 ]; then
    echo "node.sh: LONGRL_PREFLIGHT=0, no preflight on the nodes"
  elif [ "$module" = recipe.longrl.main ]; then
    supervised "$LONGRL_PYTHON_COMMAND" -m recipe.longrl.preflight "$@" || return
  else
    echo "node.sh: no preflight on the nodes, $module checks its runs itself"
  fi
  supervised "$LONGRL_PYTHON_COMMAND" -m "$module" "$@"
}

case "$role" in
  ray) ray_node ;;
  train) train "$@" ;;
esac
