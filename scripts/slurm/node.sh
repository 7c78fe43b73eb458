#!/usr/bin/env bash
# Started by train.sbatch on each node, in the container if there is one. Do not call it by hand.
#
#   srun bash scripts/slurm/node.sh ray ATTEMPT LOCAL_DIR
#       run this node's part of the Ray cluster until it is told to stop
#   srun bash scripts/slurm/node.sh train ATTEMPT LOCAL_DIR MODULE arguments...
#       wait for all nodes, run the preflight, then the training; exit with the training's status
#
# ATTEMPT is the log folder of the attempt. This script writes ROLE-NODE.log there, and reads the file `signal`, which
# names the signal to send to the training. It is a file because Slurm would send a signal to every process of a step,
# and most of Ray's die of it. Variables, from train.sbatch: LONGRL_RAY_ADDRESS, LONGRL_RAY_OPTIONS, LONGRL_NODES,
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
saved=75 # EX_TEMPFAIL: the same command resumes

unset PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED=1 RAY_DEDUP_LOGS=0
# Caches that many processes write at once, or that hold code compiled for this node's hardware, belong on its own disk.
# Those that the user has set stay where they are. The hub's cache (HF_HOME) is not moved: if it is shared, a model is
# downloaded once, not once per node. Most of these caches hold code that is run, so the folder must be this user's.
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

ray_start() { # run this node's Ray in the foreground
  local more options=(--block --disable-usage-stats --node-name="$node" --temp-dir="$ray_dir" --num-cpus="$SLURM_CPUS_ON_NODE")
  # Let Ray choose free ports, so that jobs can share a node.
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

# Run Ray until SIGTERM. Its logs are copied to the attempt's, readable by this user only; its folder is removed.
ray_node() {
  local ray_dir=$local_dir/$SLURM_JOB_ID-$SLURM_NODEID stopped='' result
  private "$ray_dir" "$ray_dir/tmp"
  trap 'stopped=yes' TERM # The signal reaches Ray too, and ends it. This script then cleans up.
  export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # The training has ended before, so there is nothing to wait for.
  # Ray gives up a start after 30 s, which may be too short when files are read for the first time.
  for _ in 1 2 3; do
    result=0
    ray_start || result=$?
    if [ -n "$stopped" ] || grep -q 'Ray runtime started' "$log"; then break; fi
    echo "node.sh: Ray did not start on $node"
  done
  rm -f "$ray_dir"/session_latest/logs/runtime_env* # These contain values of environment variables.
  (umask 077 && cp -rL "$ray_dir/session_latest/logs" "$attempt/ray-$node") 2>/dev/null || true
  rm -rf "$ray_dir"
  [ -n "$stopped" ] || return "$result"
}

# Run a command and return its exit status. When the file `signal` appears, send that signal to it, once.
supervised() {
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
  # The signal itself ended the command before the training could handle it, so there was nothing to save.
  if [ -n "$sent" ] && [ "$status" -eq $((128 + $(kill -l "$sent"))) ]; then status=$saved; fi
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
    echo "node.sh: LONGRL_PREFLIGHT=0: the preflight on the nodes is skipped"
  elif [ "$module" = recipe.longrl.main ]; then
    supervised "$LONGRL_PYTHON_COMMAND" -m recipe.longrl.preflight "$@" || return
  else
    echo "node.sh: no preflight on the nodes: $module checks its runs itself"
  fi
  supervised "$LONGRL_PYTHON_COMMAND" -m "$module" "$@"
}

case "$role" in
  ray) ray_node ;;
  train) train "$@" ;;
esac
