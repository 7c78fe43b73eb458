#!/usr/bin/env bash
# The whole test suite, after setting up what is missing: bash scripts/test.sh [pytest arguments]
#   bash scripts/test.sh -m "not engine and not e2e"   unit tests alone (seconds)
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$repository/scripts/setup.sh" ${LONGRL_TARGET:+"$LONGRL_TARGET"} || exit 1
venv=${LONGRL_VENV:-$repository/.venv}
case "$venv" in /*) ;; *) venv=$PWD/$venv ;; esac
cd "$repository"
unset PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
exec "$venv/bin/python" -m pytest "$@"
