# Sourced by setup.sh: `find_python` sets $python to a Python 3.11 or 3.12 with venv, and downloads one if necessary.
# shellcheck shell=bash disable=SC2154  # $venv is set by setup.sh

usable() { "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
  local candidates=(python3.11 python3.12 python3) downloaded="$venv.python" # Next to the environment, on the same disk.
  [ -z "${LONGRL_PYTHON:-}" ] || candidates=("$LONGRL_PYTHON")
  for python in "${candidates[@]}"; do
    if usable "$python"; then return; fi
  done
  [ -z "${LONGRL_PYTHON:-}" ] ||
    die "no Python 3.11 or 3.12 with venv found (tried $LONGRL_PYTHON). Fix: set LONGRL_PYTHON to one, or unset it"
  if ! usable "$downloaded"/*/bin/python3.12; then
    echo "setup: no Python 3.11 or 3.12 with venv found (tried ${candidates[*]}); downloading one with uv to $downloaded (30 MB)"
    download_python "$downloaded" || true
  fi
  for python in "$downloaded"/*/bin/python3.12; do
    if usable "$python"; then return; fi
  done
  rm -rf "$downloaded"
  die "no Python 3.11 or 3.12, and uv could not download one (above). Fix: install one with apt install python3.12-venv" \
    "(Ubuntu 24.04), dnf install python3.12 (Fedora), pyenv install 3.12, conda create -n py312 python=3.12, or uv python" \
    "install 3.12 where GitHub can be reached; if it is not on PATH, set LONGRL_PYTHON to it"
}

# download_python FOLDER: with the uv on PATH, or with one that any python3 installs temporarily.
download_python() {
  local tool uv status=0 locked=(--require-hashes -r requirements/uv.txt)
  tool=$(mktemp -d)
  if ! uv=$(command -v uv); then
    uv=$tool/bin/uv
    if ! { python3 -m venv "$tool" && "$tool/bin/python" -m pip install --quiet "${locked[@]}"; } 2>/dev/null; then
      python3 -m pip install --quiet --target "$tool" "${locked[@]}" || true # Debian's python3 without venv
    fi
  fi
  UV_PYTHON_INSTALL_DIR=$1 UV_PYTHON_INSTALL_BIN=0 "$uv" python install 3.12 || status=$?
  rm -rf "$tool"
  return $status
}
