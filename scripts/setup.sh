#!/usr/bin/env bash
# Set up what is missing, in .venv beside this repository: bash scripts/setup.sh [cpu|gpu]
#
# Without an argument: gpu where nvidia-smi lists one, else cpu. A second call takes a second; an environment that was
# left half made, broken, or made for the other target is made anew. Afterwards, to type commands by hand:
# source .venv/bin/activate
#
#   LONGRL_VENV    another place for the environment
#   LONGRL_PYTHON  the interpreter to build it from, 3.11 or 3.12 (default: the first that works of python3.11,
#                  python3.12, python3; else uv downloads 3.12)
#   LONGRL_BUILD_FLASH_ATTN=1
#                  for gpu: build flash-attn, 30 to 90 minutes; needs nvcc of the CUDA version that torch has, and a C++
#                  compiler. LongRL works without flash-attn
#
# Only files whose hashes are in requirements/ are installed, from whatever index, and so are the tools that build them.
# The build of flash-attn reads FLASH_ATTN_CUDA_ARCHS (GPUs to build for, 90 for H100 and H200, all without), CUDA_HOME, CXX, MAX_JOBS.
set -euo pipefail
case "${1:-}" in
  -h | --help) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;;
  "" | cpu | gpu) ;;
  *) echo "setup.sh: unknown target '$1'; expected cpu, gpu or nothing" >&2; exit 2 ;;
esac
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${LONGRL_VENV:-$repository/.venv}
case "$venv" in /*) ;; *) venv=$PWD/$venv ;; esac
cd "$repository"
target=${1:-$(nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)}
lock=requirements/$target.txt
driver_of_cuda_13=580 # the least NVIDIA driver for the CUDA version in gpu.txt
source scripts/setup/python.sh
source scripts/setup/flash_attn.sh

# $venv/.longrl says how far it has come: "<target> new", "<target> made" (pip works), at last the stamp.
stamp="$target $(cat "$lock" requirements/uv.txt pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16) $repository"
progress() { cat "$venv/.longrl" 2>/dev/null || true; }
packages_done() { [ "$(progress)" = "$stamp" ] && [ -x "$venv/bin/python" ]; }
complete() { packages_done && { [ "$target" = cpu ] || flash_attn_settled; }; }
die() { echo "setup: $*" >&2; exit 1; }
warn() { echo "setup: WARNING: $*" >&2; }

make_environment() {
  local python
  case "$(progress)" in
    "$target new") ;;
    "$target "*) if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then return; fi ;;
    "") [ -z "$(ls -A "$venv" 2>/dev/null)" ] ||
      die "$venv exists and was not made by setup.sh; delete it or set LONGRL_VENV to another place" ;;
  esac
  find_python
  mkdir -p "$venv"
  echo "$target new" >"$venv/.longrl"
  find "$venv" -mindepth 1 -maxdepth 1 ! -name .longrl -exec rm -rf {} +
  "$python" -m venv "$venv"
}

look_at_gpu_machine() { # says what will not work here, before gigabytes are downloaded
  local driver include
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)
  case "${driver%%.*}" in
    "" | *[!0-9]*) ;; # a machine without nvidia-smi, as login nodes are, or one that does not say
    *) [ "${driver%%.*}" -ge $driver_of_cuda_13 ] ||
      warn "the NVIDIA driver is $driver; torch with CUDA 13 needs $driver_of_cuda_13 or later and will find no GPU: update it" ;;
  esac
  include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  if [ ! -e "$include/Python.h" ] || ! command -v "${CC:-gcc}" >/dev/null; then
    warn "no C compiler or no $include/Python.h; Triton needs both at first use: apt install gcc ${include##*/}-dev" \
      "(Debian, Ubuntu), dnf install gcc ${include##*/}-devel (Fedora)"
  fi
}

install() { # uv's progress without its list of what is installed now; the locks are complete, so no dependencies
  "$venv/bin/uv" pip install --no-deps --build-constraints requirements/build.txt "$@" 2>&1 | sed -uE '/^ [+~-] |^Using Python /d' >&2
}

install_torch_for_cpu() { # PyPI's own torch for Linux brings gigabytes of CUDA
  local index=https://download.pytorch.org/whl/cpu build=requirements/torch-cpu.txt
  echo "setup: $(grep -oE '^torch==[^ ]+' "$build")"
  if curl --silent --fail --head --max-time 10 "$index/torch/" >/dev/null 2>&1; then
    install --require-hashes --index "$index" -r "$build"
  elif ! "${pip[@]}" --no-deps --require-hashes -r "$build" 2>/dev/null; then # from where pip is configured to look
    echo "setup: neither $index nor pip's indexes have it; PyPI's build, with its CUDA libraries"
    install --require-hashes -r requirements/torch-cuda.txt
  fi
}

install_packages() {
  "${pip[@]}" --require-hashes -r requirements/uv.txt
  if [ "$target" = cpu ]; then install_torch_for_cpu; fi
  echo "setup: packages of $lock, then a minute without a word while they are compiled to bytecode"
  install --require-hashes --compile-bytecode -r "$lock"
  install --editable .
}

complete && exit 0
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock -n 9 || { echo "setup: another set-up of $venv is running, waiting for it"; flock 9; }
complete && exit 0

pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
export VIRTUAL_ENV="$venv" UV_LINK_MODE=${UV_LINK_MODE:-copy} UV_HTTP_TIMEOUT=300
[ -n "${PIP_INDEX_URL:-}" ] && export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
if ! packages_done; then
  case "$target" in cpu) takes="2 minutes, 5 GB of disk" ;; gpu) takes="4 minutes, 4.5 GB to download, 11 GB of disk" ;; esac
  echo "setup: $target environment in $venv from $lock (first time, on a fast line: $takes)"
  make_environment
  echo "$target made" >"$venv/.longrl"
  [ "$target" = cpu ] || look_at_gpu_machine
  install_packages
  rm -f "$venv/.flash-attn"
  echo "$stamp" >"$venv/.longrl"
fi
if [ "$target" = gpu ]; then add_flash_attn; fi
echo "setup: done"
