#!/usr/bin/env bash
# Run a recipe as a Ray job in a running cluster, follow its log, and exit with the job's status.
#
#   RAY_ADDRESS=http://HEAD:8265 bash scripts/ray/submit.sh [--no-wait] [MODULE] [overrides...]
#
#   MODULE                module to run (default recipe.longrl.main; recipe.longrl.curriculum, ...)
#   overrides             Hydra overrides for the module
#   --no-wait             only submit the job, and print how to follow and stop it
#   Ctrl-C                stop the job, which saves a checkpoint first; a second time: return without waiting for it
#   RAY_ADDRESS           the cluster: http://HEAD:8265 from anywhere, HEAD:6379 from one of its nodes (default: the
#                         cluster of start.sh on this machine, at LONGRL_RAY_PORT if there are several)
#   RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE
#                         the cluster's token; on hosts of start.sh it is found automatically, except for an address
#                         with http://
#   LONGRL_FORWARD_ENV    names of further variables, A,B, to forward to every worker; those of LongRL, verl, vLLM, NCCL,
#                         PyTorch, Hugging Face and W&B are forwarded anyway (recipe/longrl/worker_env.py), except keys
#   LONGRL_SECRETS_FILE   a file on a disk of the cluster, mode 600, with the keys that the job needs: {"HF_TOKEN": "..."}
#   LONGRL_PREFLIGHT=0    skip the preflight at the start of the job
#   LONGRL_SHIP=1         upload this checkout's packages, for nodes that have the dependencies but not this code
#   LONGRL_JOB_DIR        the job's folder on the cluster (default: the current one, which must exist there)
#   LONGRL_JOB_PYTHON     Python on the cluster (default: this environment's, which must exist there)
#   LONGRL_STOP_WAIT_S    how long a stopped job may take to save before it is killed (default 1800)
#   LONGRL_VENV           the environment (default .venv of this checkout)
#
# Exit status: the job's own (0 trained to the end, 2 rejected by a check, 75 saved: submit it again to resume); 130
# stopped; 2 no cluster answers.
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python=${LONGRL_VENV:-$root/.venv}/bin/python
[ -x "$python" ] || { echo "submit.sh: no Python at $python. Fix: run bash scripts/setup.sh, or set LONGRL_VENV" >&2; exit 2; }
# shellcheck source=scripts/ray/cluster.sh
source "$root/scripts/ray/cluster.sh"
address=$(cluster_folder "${LONGRL_RAY_PORT:-6379}")/address
if [ -z "${RAY_ADDRESS:-}" ] && [ -O "$address" ]; then RAY_ADDRESS=$(cat "$address") && export RAY_ADDRESS; fi
find_token
exec "$python" -m recipe.longrl.ray_job "$@"
