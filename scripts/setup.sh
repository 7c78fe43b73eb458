#!/usr/bin/env bash
# Set up what is missing, in .venv beside this repository: bash scripts/setup.sh [cpu|gpu]
# Without an argument: gpu where nvidia-smi lists one, else cpu. A second call takes a second; an environment that was
# left half made, broken, or made for the other target is made anew.
#   LONGRL_VENV    another place for the environment
#   LONGRL_PYTHON  the interpreter to build it from, 3.11 or 3.12 (default: the first that works of python3.11,
#                  python3.12, python3)
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,8p' "$0" | cut -c3-; exit 0 ;; "" | cpu | gpu) ;; *)
  echo "setup.sh: unknown target '$1'; expected cpu, gpu or nothing" >&2; exit 2 ;; esac
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${LONGRL_VENV:-$repository/.venv}
case "$venv" in /*) ;; *) venv=$PWD/$venv ;; esac
cd "$repository"
target=${1:-$(nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)}
lock=requirements/$target.txt
uv_version=0.13.8
# $venv/.longrl says how far it has come: "<target> new", "<target> made" (pip works), at last the stamp.
stamp="$target $(cat "$lock" pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16) $repository"
progress() { cat "$venv/.longrl" 2>/dev/null || true; }
complete() { [ "$(progress)" = "$stamp" ] && [ -x "$venv/bin/python" ]; }

complete && exit 0
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock -n 9 || { echo "setup: another set-up of $venv is running, waiting for it"; flock 9; }
complete && exit 0

case "$(progress)" in
  "$target new") reusable= ;;
  "$target "*) reusable=$("$venv/bin/python" -m pip --version 2>/dev/null || true) ;;
  "") reusable=
    if [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
      echo "setup: $venv exists and was not made by setup.sh; delete it or set LONGRL_VENV to another place" >&2; exit 1
    fi ;;
  *) reusable= ;;
esac
echo "setup: $target environment in $venv from $lock (first time: 2 to 5 minutes)"
if [ -z "$reusable" ]; then
  candidates=(python3.11 python3.12 python3)
  [ -n "${LONGRL_PYTHON:-}" ] && candidates=("$LONGRL_PYTHON")
  python=
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
    then python=$candidate; break; fi
  done
  [ -n "$python" ] || {
    echo "setup: no Python 3.11 or 3.12 with venv found (tried ${candidates[*]}); set LONGRL_PYTHON to one" >&2; exit 1; }
  mkdir -p "$venv"
  echo "$target new" >"$venv/.longrl"
  find "$venv" -mindepth 1 -maxdepth 1 ! -name .longrl -exec rm -rf {} +
  "$python" -m venv "$venv"
fi
echo "$target made" >"$venv/.longrl"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" "uv==$uv_version"
export VIRTUAL_ENV="$venv" UV_LINK_MODE=${UV_LINK_MODE:-copy} UV_HTTP_TIMEOUT=300
[ -n "${PIP_INDEX_URL:-}" ] && export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
uv=("$venv/bin/uv" pip install --quiet --no-deps) # the locks are complete, and leave out on purpose what breaks

if [ "$target" = cpu ]; then
  torch=$(grep -oE '^torch==[^ ]+' "$lock")
  cpu_index=https://download.pytorch.org/whl/cpu # PyPI's own torch for Linux brings gigabytes of CUDA
  if curl --silent --fail --head --max-time 10 "$cpu_index/torch/" >/dev/null 2>&1; then
    "${uv[@]}" --index "$cpu_index" "$torch"
  else
    "${pip[@]}" "$torch" # as pip is configured here; with what it needs, for PyPI's does not load without its CUDA
  fi
  echo "setup: torch done, now the other packages"
  "${uv[@]}" --compile-bytecode -r "$lock"
else
  "${uv[@]}" --compile-bytecode -r "$lock"
fi
"${uv[@]}" --editable .
echo "$stamp" >"$venv/.longrl"
echo "setup: done"
