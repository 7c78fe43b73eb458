#!/usr/bin/env bash
# Set up the Python environment in .venv of this repository: bash scripts/setup.sh [cpu|gpu|eval|bfcl]
#
# Without an argument: gpu if nvidia-smi lists one, otherwise cpu. If the environment is complete, this takes a second; one
# that is incomplete, broken, or made for the other target is rebuilt. Afterwards, to type commands by hand:
# source .venv/bin/activate
#
# eval and bfcl are for two kinds of benchmarks (docs/evaluation.md) that conflict with LongRL's packages: they make
# .venv-eval and .venv-bfcl, which the evaluation runs by itself.
#
#   LONGRL_VENV    another folder for the environment; eval and bfcl append -eval and -bfcl to it
#   LONGRL_PYTHON  the Python 3.11 or 3.12 to build it from (default: the first that works of python3.11, python3.12,
#                  python3; if none does, uv downloads 3.12)
#   LONGRL_BUILD_FLASH_ATTN=1
#                  for gpu: build flash-attn, in 30 to 90 minutes; needs nvcc of torch's CUDA version and a C++ compiler.
#                  LongRL works without flash-attn
#
# Only files whose hashes are in requirements/ are installed, from any index, including the tools that build them. The
# build of flash-attn reads FLASH_ATTN_CUDA_ARCHS (GPUs to build for; 90 for H100 and H200; default: all), CUDA_HOME, CXX
# and MAX_JOBS.
set -euo pipefail
case "${1:-}" in
  -h | --help) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;;
  "" | cpu | gpu | eval | bfcl) ;;
  *) echo "setup.sh: unknown target '$1'; expected cpu, gpu, eval, bfcl or nothing" >&2; exit 2 ;;
esac
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${LONGRL_VENV:-$repository/.venv}
case "$venv" in /*) ;; *) venv=$PWD/$venv ;; esac
cd "$repository"
target=${1:-$(nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)}
case "$target" in eval | bfcl) venv=$venv-$target ;; esac
lock=requirements/$target.txt
driver_of_cuda_13=580 # The oldest NVIDIA driver for the CUDA version in gpu.txt.
source scripts/setup/python.sh
source scripts/setup/flash_attn.sh

# $venv/.longrl holds the progress: "<target> new", then "<target> made" (pip works), then the stamp (complete).
stamp="$target $(cat "$lock" requirements/uv.txt pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16) $repository"
progress() { cat "$venv/.longrl" 2>/dev/null || true; }
packages_done() { [ "$(progress)" = "$stamp" ] && [ -x "$venv/bin/python" ]; }
complete() { packages_done && { [ "$target" != gpu ] || flash_attn_settled; }; }
die() { echo "setup: $*" >&2; exit 1; }
warn() { echo "setup: WARNING: $*" >&2; }

make_environment() {
  local python
  case "$(progress)" in
    "$target new") ;;
    "$target "*) if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then return; fi ;;
    "") [ -z "$(ls -A "$venv" 2>/dev/null)" ] ||
      die "$venv exists and was not made by setup.sh. Fix: delete it, or set LONGRL_VENV to another folder" ;;
  esac
  find_python
  mkdir -p "$venv"
  echo "$target new" >"$venv/.longrl"
  find "$venv" -mindepth 1 -maxdepth 1 ! -name .longrl -exec rm -rf {} +
  "$python" -m venv "$venv"
}

# Warn of what will not work on this machine, before gigabytes are downloaded.
check_gpu_machine() {
  local driver include
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)
  case "${driver%%.*}" in
    "" | *[!0-9]*) ;; # No nvidia-smi, as on login nodes, or an unknown answer.
    *) [ "${driver%%.*}" -ge $driver_of_cuda_13 ] ||
      warn "the NVIDIA driver is $driver, but torch with CUDA 13 needs $driver_of_cuda_13 or later and will not find a GPU. Fix: update the driver" ;;
  esac
  include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  if [ ! -e "$include/Python.h" ] || ! command -v "${CC:-gcc}" >/dev/null; then
    warn "no C compiler or no $include/Python.h, which Triton needs at first use. Fix: apt install gcc ${include##*/}-dev" \
      "(Debian, Ubuntu), dnf install gcc ${include##*/}-devel (Fedora)"
  fi
}

# Install without dependencies, because the locks are complete. Shows uv's progress, but not its list of packages.
install() {
  "$venv/bin/uv" pip install --no-deps --build-constraints requirements/build.txt "$@" 2>&1 | sed -uE '/^ [+~-] |^Using Python /d' >&2
}

# Prefer a CPU build of torch: PyPI's build for Linux includes gigabytes of CUDA libraries.
install_torch_for_cpu() {
  local index=https://download.pytorch.org/whl/cpu build=requirements/torch-cpu.txt
  echo "setup: $(grep -oE '^torch==[^ ]+' "$build")"
  if curl --silent --fail --head --max-time 10 "$index/torch/" >/dev/null 2>&1; then
    install --require-hashes --index "$index" -r "$build"
  elif ! "${pip[@]}" --no-deps --require-hashes -r "$build" 2>/dev/null; then # From the indexes that pip is configured for.
    echo "setup: neither $index nor pip's indexes have it; installing PyPI's build with its CUDA libraries"
    install --require-hashes -r requirements/torch-cuda.txt
  fi
}

install_packages() {
  "${pip[@]}" --require-hashes -r requirements/uv.txt
  case "$target" in cpu | bfcl) install_torch_for_cpu ;; esac
  case "$target" in
    eval | bfcl) install --require-hashes -r "$lock" ;;
    *)
      echo "setup: installing the packages of $lock, then compiling them to bytecode (a minute without output)"
      install --require-hashes --compile-bytecode -r "$lock"
      install --editable .
      ;;
  esac
}

complete && exit 0
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock -n 9 || { echo "setup: another setup of $venv is running; waiting for it"; flock 9; }
complete && exit 0

pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
export VIRTUAL_ENV="$venv" UV_LINK_MODE=${UV_LINK_MODE:-copy} UV_HTTP_TIMEOUT=300
[ -n "${PIP_INDEX_URL:-}" ] && export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
if ! packages_done; then
  case "$target" in
    cpu) takes="2 minutes, 5 GB of disk" ;;
    gpu) takes="4 minutes, 4.5 GB to download, 11 GB of disk" ;;
    eval) takes="half a minute, 850 MB of disk" ;;
    bfcl) takes="2 minutes, 1.6 GB of disk" ;;
  esac
  echo "setup: $target environment in $venv from $lock (with a fast connection: $takes)"
  make_environment
  echo "$target made" >"$venv/.longrl"
  [ "$target" != gpu ] || check_gpu_machine
  install_packages
  rm -f "$venv/.flash-attn"
  echo "$stamp" >"$venv/.longrl"
fi
if [ "$target" = gpu ]; then add_flash_attn; fi
echo "setup: done"
