# Sourced by setup.sh: `add_flash_attn` keeps a flash-attn that loads, or builds one if requested and possible. It never
# fails: LongRL works without. $venv/.flash-attn holds the outcome: "<pin> here", "<pin> none", or "<pin> failed" for a
# build, which is not repeated.
# shellcheck shell=bash disable=SC2154  # $venv, $pip and others are set by setup.sh
flash_attn=$(grep -oE '^flash-attn==[^ ]+' requirements/flash-attn.txt)

flash_attn_settled() {
  case "$(cat "$venv/.flash-attn" 2>/dev/null)" in
    "$flash_attn here" | "$flash_attn failed") ;;
    "$flash_attn none") [ -z "${LONGRL_BUILD_FLASH_ATTN:-}" ] ;;
    *) return 1 ;;
  esac
}

add_flash_attn() {
  local state=none why='' log=$venv/flash-attn.log
  : >"$log"
  if flash_attn_loads; then
    state=here
  else
    why="to build it, in 30 to 90 minutes: LONGRL_BUILD_FLASH_ATTN=1 bash scripts/setup.sh gpu"
    if [ -n "${LONGRL_BUILD_FLASH_ATTN:-}" ]; then build_flash_attn; fi
  fi
  echo "$flash_attn $state" >"$venv/.flash-attn"
  if [ "$state" = here ]; then echo "setup: $flash_attn is installed"; return; fi
  "$venv/bin/uv" pip uninstall --quiet flash-attn 2>/dev/null || true # verl would try to import one that does not load.
  echo "setup: no flash-attn ($why). LongRL's engine does not need it (torch has a varlen attention); verl's" \
    "engines use torch's sdpa"
}

# Import it: an extension that was built for another torch or Python is found, but does not load.
flash_attn_loads() {
  "$venv/bin/python" -c 'import importlib.util, sys
importlib.util.find_spec("flash_attn_2_cuda") or sys.exit("flash-attn is not installed")
import torch, flash_attn_2_cuda' >>"$log" 2>&1
}

build_flash_attn() { # sets $state and $why
  local cuda home='' candidate
  cuda=$("$venv/bin/python" -c 'import torch; print(torch.version.cuda.split(".")[0])')
  for candidate in "/usr/local/cuda-$cuda".* /usr/local/cuda "$(dirname "$(command -v nvcc)")/.."; do
    candidate=${CUDA_HOME:-$candidate}
    if "$candidate/bin/nvcc" --version 2>/dev/null | grep -q "release $cuda\."; then home=$candidate; break; fi
  done
  if [ -z "$home" ]; then
    why="no nvcc $cuda.x to build it with. Fix: install the CUDA toolkit $cuda and set CUDA_HOME to it"; return
  elif ! command -v "${CXX:-g++}" >/dev/null; then
    why="no C++ compiler to build it with. Fix: install g++, or set CXX"; return
  fi
  echo "setup: building $flash_attn with $home: 30 to 90 minutes, up to [N/N] (full log: $log)"
  if CUDA_HOME=$home FLASH_ATTENTION_FORCE_BUILD=TRUE "${pip[@]}" -vv --force-reinstall --no-deps --no-build-isolation \
    --no-cache-dir --require-hashes -r requirements/flash-attn.txt 2>&1 | tee -a "$log" |
    sed -un 's/^ *\(\[[0-9]*\/[0-9]*\]\).*/setup: flash-attn \1/p' &&
    flash_attn_loads
  then state=here; else state=failed why="its build failed, see $log (to try again: rm $venv/.flash-attn)"; fi
}
