#!/usr/bin/env bash
# Run a recipe as a Ray Job in a running cluster: its log is followed to its end, its exit status is the job's.
#
#   RAY_ADDRESS=http://HEAD:8265 bash scripts/ray/submit.sh [--no-wait] [MODULE] [overrides...]
#
#   MODULE                what to run (default recipe.longrl.main; recipe.longrl.curriculum, ...)
#   overrides             Hydra's, as for the module itself
#   --no-wait             submit only, and print how to follow and stop it
#   Ctrl-C                stops the job, which saves a checkpoint first; twice: leaves it running or stopping, returns
#   RAY_ADDRESS           the cluster: http://HEAD:8265 from anywhere, HEAD:6379 from one of its nodes (default: the
#                         cluster that runs on this machine, of LONGRL_RAY_PORT if start.sh started several)
#   RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE
#                         the token that the cluster asks for; found by itself on the hosts of a start.sh, except for
#                         an address with http://
#   LONGRL_FORWARD_ENV    names of more variables, A,B, that every worker gets; those of LongRL, verl, vLLM, NCCL,
#                         PyTorch, Hugging Face and W&B go by themselves (recipe/longrl/worker_env.py), except for keys
#   LONGRL_SECRETS_FILE   a file on a disk of the cluster, mode 600, with the keys that the job needs: {"HF_TOKEN": "..."}
#   LONGRL_PREFLIGHT=0    without the preflight that the job begins with
#   LONGRL_SHIP=1         upload this checkout's packages, for nodes that have the dependencies but not this code
#   LONGRL_JOB_DIR        the job's folder on the cluster (default: the current one, which must be there too)
#   LONGRL_JOB_PYTHON     Python on the cluster (default: this environment's, which must be there too)
#   LONGRL_STOP_WAIT_S    how long a stopped job may take to save before it is killed (default 1800)
#   LONGRL_VENV           the environment (default .venv of this checkout)
#
# Exit status: the job's own (0 trained to the end, 2 refused, 75 saved and to be submitted again); 130 stopped; 2 no
# cluster answers.
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python=${LONGRL_VENV:-$root/.venv}/bin/python
[ -x "$python" ] || { echo "submit.sh: no Python at $python; bash scripts/setup.sh makes it, or set LONGRL_VENV" >&2; exit 2; }
# shellcheck source=scripts/ray/cluster.sh
source "$root/scripts/ray/cluster.sh"
address=$(cluster_folder "${LONGRL_RAY_PORT:-6379}")/address
if [ -z "${RAY_ADDRESS:-}" ] && [ -O "$address" ]; then RAY_ADDRESS=$(cat "$address") && export RAY_ADDRESS; fi
find_token
exec "$python" -m recipe.longrl.ray_job "$@"
