#!/usr/bin/env bash
# Set up what is missing, in .venv beside this repository: bash scripts/setup.sh [cpu|gpu]
# Without an argument: gpu where nvidia-smi lists one, else cpu. A second call takes a second.
#   LONGRL_VENV    another place for the environment (default .venv)
#   LONGRL_PYTHON  the interpreter to build it from (default python3.11, else python3; 3.11 or 3.12)
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,6p' "$0" | cut -c3-; exit 0 ;; "" | cpu | gpu) ;; *)
  echo "setup.sh: unknown target '$1'; expected cpu, gpu or nothing" >&2; exit 2 ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:-$(nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)}
venv=${LONGRL_VENV:-.venv}
lock=requirements/$target.txt
uv_version=0.13.8
stamp="$target $(cat "$lock" pyproject.toml "$0" | sha256sum | cut -c1-16) $PWD"

if [ "$(cat "$venv/.longrl" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
mkdir -p "$venv"
exec 9>"$venv.lock"
flock -n 9 || { echo "setup: another set-up of $venv is running, waiting for it"; flock 9; }
[ "$(cat "$venv/.longrl" 2>/dev/null)" = "$stamp" ] && exit 0

python=${LONGRL_PYTHON:-$(command -v python3.11 || command -v python3.12 || command -v python3)}
"$python" - <<'PY' || { echo "setup: $python cannot be used; set LONGRL_PYTHON to a Python 3.11 or 3.12" >&2; exit 1; }
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit(f"setup: Python {sys.version.split()[0]} found, 3.11 or 3.12 needed")
PY
echo "setup: $target environment in $venv from $lock (first time: 2 to 5 minutes)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check "uv==$uv_version"
export VIRTUAL_ENV="$PWD/$venv" UV_LINK_MODE=${UV_LINK_MODE:-copy} UV_HTTP_TIMEOUT=300
case "$venv" in /*) VIRTUAL_ENV=$venv ;; esac
[ -n "${PIP_INDEX_URL:-}" ] && export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
uv=("$venv/bin/uv" pip install --quiet --no-deps) # the locks are complete, and leave out on purpose what breaks

if [ "$target" = cpu ]; then
  torch=$(grep -oE '^torch==[^ ]+' "$lock")
  cpu_index=https://download.pytorch.org/whl/cpu # PyPI's own torch for Linux brings gigabytes of CUDA
  if curl --silent --fail --head --max-time 10 "$cpu_index/torch/" >/dev/null 2>&1; then
    "${uv[@]}" --index "$cpu_index" "$torch"
  else
    "$venv/bin/pip" install --quiet --no-deps --disable-pip-version-check "$torch" # as pip is configured here
  fi
  echo "setup: torch done, now the other packages"
  "${uv[@]}" --compile-bytecode -r "$lock"
else
  grep -v '^flash-attn' "$lock" >"$venv/without-flash-attn.txt"
  "${uv[@]}" --compile-bytecode -r "$venv/without-flash-attn.txt"
  echo "setup: packages done, now flash-attn (built against the installed torch)"
  "${uv[@]}" setuptools wheel ninja psutil
  "${uv[@]}" --no-build-isolation "$(grep -oE '^flash-attn==[^ ]+' "$lock")"
fi
"${uv[@]}" --editable .
echo "$stamp" >"$venv/.longrl"
echo "setup: done"
