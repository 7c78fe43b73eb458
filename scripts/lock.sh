#!/usr/bin/env bash
# Resolve requirements/*.in into complete locks, versions and hashes (for maintainers; needs PyPI):
#
#   bash scripts/lock.sh            what the .in files ask for; what is locked and still fits keeps its version
#   bash scripts/lock.sh --upgrade  everything as new as it gets
#   bash scripts/lock.sh --check    change nothing: a resolver proves for Python 3.11 and 3.12 that the locks of cpu and
#                                   gpu are what their .in files ask for, complete and without conflicts, and that
#                                   PyPI has the files whose hashes are locked (half a minute; status 1 if not)
#
#   LONGRL_VENV    the environment whose uv is used where there is none on PATH (default .venv)
#
# requirements/torch-cpu.txt is kept by hand: its builds are not on PyPI.
set -euo pipefail
case "${1:-}" in
  -h | --help) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;;
  "" | --check | --upgrade) ;;
  *) echo "lock.sh: unknown option '$1'; expected --check, --upgrade or nothing" >&2; exit 2 ;;
esac
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
uv=$(command -v uv || echo "${LONGRL_VENV:-$repository/.venv}/bin/uv")
[ -x "$uv" ] || { echo "lock.sh: no uv on PATH nor at $uv; bash scripts/setup.sh brings it, or set LONGRL_VENV" >&2; exit 2; }
cd "$repository/requirements"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pins='^[A-Za-z0-9._-]+==[^ ]+'

resolve() { # LOCK PYTHON [uv's options...]: what $lock.in and its overrides ask for, with hashes, to stdout
  local options=()
  case "$1" in
    cpu) options=(--override cpu-overrides.txt --config-file uv-lock-cpu.toml) ;;
    gpu) options=(--override gpu-overrides.txt) ;;
    torch-cuda) options=(--override cpu.txt) ;;
    flash-attn) options=(--no-deps) ;;
  esac
  "$uv" pip compile "$1.in" "${options[@]}" "${@:3}" --generate-hashes --python-version "$2" \
    --python-platform x86_64-manylinux_2_28 --no-python-downloads --no-header --annotation-style line --quiet
}

hashes() { # LOCK: a line "PIN HASH" for each
  awk '/^[A-Za-z0-9]/ {pin = $1} {for (i = 1; i <= NF; i++) if ($i ~ /^--hash=/) print pin, $i}' "$1" | sort
}

check() { # LOCK PYTHON: is it what the .in file resolves to when nothing but the lock's versions may be chosen?
  local name="requirements/$1.txt for Python $2" found="$work/$1-$2"
  grep -oE "$pins" "$1.txt" >"$found.pins"
  if ! resolve "$1" "$2" --constraint "$found.pins" >"$found"; then
    echo "lock.sh: $name has a conflict (above); fix requirements/$1.in, then bash scripts/lock.sh"; return 1
  fi
  if ! diff "$found.pins" <(grep -oE "$pins" "$found") >"$found.diff"; then
    sed -n 's/^</not asked for:/p; s/^>/missing:/p' "$found.diff"
    echo "lock.sh: $name is not what requirements/$1.in asks for (above); bash scripts/lock.sh"; return 1
  fi
  # three packages are source only; glibc 2.31 is the oldest that all others have wheels for
  if ! grep -vE '^(antlr4-python3-runtime|jieba|rouge-score)==' "$found.pins" |
    "$uv" pip install --dry-run --quiet --no-deps --only-binary :all: --python-version "$2" \
      --python-platform x86_64-manylinux_2_31 --target "$found.target" --requirements -
  then echo "lock.sh: $name pins what has no wheel (above)"; return 1; fi
  # a file that PyPI got since is no fault of the lock's
  comm -23 <(hashes "$1.txt") <(hashes "$found") >"$found.strange"
  comm -23 <(sort "$found.pins") <(hashes "$1.txt" | cut -d' ' -f1 | uniq) | sed 's/^/not of /' >>"$found.strange"
  if [ -s "$found.strange" ]; then
    cat "$found.strange"
    echo "lock.sh: $name has hashes that PyPI does not have, or none (above); find out why, then bash scripts/lock.sh"
    return 1
  fi
  echo "lock.sh: $name is valid"
}

if [ "${1:-}" = --check ]; then
  checks=()
  for lock in cpu gpu; do
    for python in 3.11 3.12; do
      check "$lock" "$python" >"$work/$lock-$python.log" 2>&1 & checks+=($!)
    done
  done
  status=0
  for running in "${checks[@]}"; do wait "$running" || status=1; done
  cat "$work"/*.log
  exit "$status"
fi

for lock in cpu gpu torch-cuda build uv flash-attn audit; do # torch-cuda follows cpu
  [ "${1:-}" = --upgrade ] || cp "$lock.txt" "$work/$lock.txt" 2>/dev/null || true # the versions that uv keeps if it can
  resolve "$lock" 3.11 --output-file "$work/$lock.txt" >/dev/null
  cp "$work/$lock.txt" "$lock.txt"
done
exec bash "$repository/scripts/lock.sh" --check
