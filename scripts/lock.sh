#!/usr/bin/env bash
# Resolve requirements/*.in into complete locks, versions and hashes (for maintainers; needs PyPI):
#
#   bash scripts/lock.sh            resolve the .in files; locked versions that still fit are kept
#   bash scripts/lock.sh --upgrade  the newest versions of everything
#   bash scripts/lock.sh --check    change nothing: check with a resolver, for Python 3.11 and 3.12, that the locks of
#                                   setup.sh's targets match their .in files, complete and without conflicts, and that
#                                   PyPI has the files whose hashes are locked (half a minute; status 1 if not)
#
#   LONGRL_VENV    the environment whose uv is used if there is none on PATH (default .venv)
#
# requirements/torch-cpu.txt is edited by hand, because its builds are not on PyPI.
set -euo pipefail
case "${1:-}" in
  -h | --help) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;;
  "" | --check | --upgrade) ;;
  *) echo "lock.sh: unknown option '$1'; expected --check, --upgrade or nothing" >&2; exit 2 ;;
esac
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
uv=$(find_uv lock.sh)
cd requirements
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pins='^[A-Za-z0-9._-]+==[^ ]+'

# resolve LOCK PYTHON [options of uv...]: print the pins, with hashes, for LOCK.in and its overrides.
resolve() {
  local options=()
  case "$1" in
    cpu) options=(--override cpu-overrides.txt --config-file uv-lock-cpu.toml) ;;
    gpu) options=(--override gpu-overrides.txt) ;;
    eval) options=(--override eval-overrides.txt) ;;
    bfcl) options=(--override bfcl-overrides.txt --config-file uv-lock-cpu.toml) ;;
    torch-cuda) options=(--override cpu.txt) ;;
    flash-attn) options=(--no-deps) ;;
  esac
  "$uv" pip compile "$1.in" "${options[@]}" "${@:3}" --generate-hashes --python-version "$2" \
    --python-platform x86_64-manylinux_2_28 --no-python-downloads --no-header --annotation-style line --quiet
}

# hashes LOCK: print a line "PIN HASH" for each hash.
hashes() {
  awk '/^[A-Za-z0-9]/ {pin = $1} {for (i = 1; i <= NF; i++) if ($i ~ /^--hash=/) print pin, $i}' "$1" | sort
}

# check LOCK PYTHON: whether LOCK.in resolves to the lock if only the lock's versions may be chosen.
check() {
  local name="requirements/$1.txt for Python $2" resolved="$work/$1-$2"
  grep -oE "$pins" "$1.txt" >"$resolved.pins"
  if ! resolve "$1" "$2" --constraint "$resolved.pins" >"$resolved"; then
    echo "lock.sh: $name has a conflict (above). Fix: edit requirements/$1.in, then run bash scripts/lock.sh"; return 1
  fi
  if ! diff "$resolved.pins" <(grep -oE "$pins" "$resolved") >"$resolved.diff"; then
    sed -n 's/^</not required:/p; s/^>/missing:/p' "$resolved.diff"
    echo "lock.sh: $name does not match requirements/$1.in (above). Fix: run bash scripts/lock.sh"; return 1
  fi
  # These packages are source only. All others have wheels for glibc 2.31 or older.
  if ! grep -vE '^(antlr4-python3-runtime|crcmod|google-search-results|jieba|oss2|rouge-score)==' "$resolved.pins" |
    "$uv" pip install --dry-run --quiet --no-deps --only-binary :all: --python-version "$2" \
      --python-platform x86_64-manylinux_2_31 --target "$resolved.target" --requirements -
  then echo "lock.sh: $name pins versions without a wheel (above)"; return 1; fi
  # Only hashes that PyPI lacks are errors: PyPI may have new files for a locked version.
  comm -23 <(hashes "$1.txt") <(hashes "$resolved") >"$resolved.invalid"
  comm -23 <(sort "$resolved.pins") <(hashes "$1.txt" | cut -d' ' -f1 | uniq) | sed 's/^/without hashes: /' >>"$resolved.invalid"
  if [ -s "$resolved.invalid" ]; then
    cat "$resolved.invalid"
    echo "lock.sh: $name has hashes that PyPI does not have, or none (above). Fix: find out why, then run bash scripts/lock.sh"
    return 1
  fi
  echo "lock.sh: $name is valid"
}

if [ "${1:-}" = --check ]; then
  checks=()
  for lock in cpu gpu eval bfcl; do
    for python in 3.11 3.12; do
      check "$lock" "$python" >"$work/$lock-$python.log" 2>&1 & checks+=($!)
    done
  done
  status=0
  for pid in "${checks[@]}"; do wait "$pid" || status=1; done
  cat "$work"/*.log
  exit "$status"
fi

for lock in cpu gpu torch-cuda eval bfcl build uv flash-attn audit; do # torch-cuda reads cpu.txt.
  [ "${1:-}" = --upgrade ] || cp "$lock.txt" "$work/$lock.txt" 2>/dev/null || true # uv keeps these versions if it can.
  resolve "$lock" 3.11 --output-file "$work/$lock.txt" >/dev/null
  cp "$work/$lock.txt" "$lock.txt"
done
exec bash "$repository/scripts/lock.sh" --check
