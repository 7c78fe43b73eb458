#!/usr/bin/env bash
# Resolve requirements/{cpu,gpu}.in into complete pinned locks (for maintainers; needs PyPI):
#
#   bash scripts/lock.sh            what the .in files ask for; what is locked and still fits keeps its version
#   bash scripts/lock.sh --upgrade  everything as new as it gets
#   bash scripts/lock.sh --check    change nothing: a resolver proves for Python 3.11 and 3.12 that each lock is what its
#                                   .in file asks for, complete and without conflicts (half a minute; status 1 if not)
#
#   LONGRL_VENV    the environment whose uv is used where there is none on PATH (default .venv)
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

resolve() { # TARGET PYTHON [uv's options...]: what $target.in and its overrides ask for, to stdout
  local target=$1 python=$2 metadata=()
  [ "$target" = gpu ] || metadata=(--config-file "uv-lock-$target.toml")
  "$uv" pip compile "$target.in" --override "$target-overrides.txt" "${metadata[@]}" "${@:3}" --python-version "$python" \
    --python-platform x86_64-manylinux_2_28 --no-header --annotation-style line --quiet
}

check() { # TARGET PYTHON: is the lock what the .in file resolves to when nothing but the lock's versions may be chosen?
  local pins='^[A-Za-z0-9._-]+==[^ ]+' name="requirements/$1.txt for Python $2" found="$work/$1-$2"
  if ! resolve "$1" "$2" --constraint "$1.txt" >"$found"; then
    echo "lock.sh: $name has a conflict (above); fix requirements/$1.in, then bash scripts/lock.sh"; return 1
  fi
  if ! diff <(grep -oE "$pins" "$1.txt") <(sed 's/+cpu / /' "$found" | grep -oE "$pins") >"$found.diff"; then
    sed -n 's/^</not asked for:/p; s/^>/missing:/p' "$found.diff"
    echo "lock.sh: $name is not what requirements/$1.in asks for (above); bash scripts/lock.sh"; return 1
  fi
  # three packages are source only; glibc 2.31 is the oldest that all others have wheels for
  if ! grep -vE '^(antlr4-python3-runtime|jieba|rouge-score)==' "$1.txt" |
    "$uv" pip install --dry-run --quiet --no-deps --only-binary :all: --python-version "$2" \
      --python-platform x86_64-manylinux_2_31 --target "$found.target" --requirements -
  then echo "lock.sh: $name pins what has no wheel (above)"; return 1; fi
  echo "lock.sh: $name is valid"
}

if [ "${1:-}" = --check ]; then
  checks=()
  for target in cpu gpu; do
    for python in 3.11 3.12; do
      check "$target" "$python" >"$work/$target-$python.log" 2>&1 & checks+=($!)
    done
  done
  status=0
  for running in "${checks[@]}"; do wait "$running" || status=1; done
  cat "$work"/*.log
  exit "$status"
fi

for target in cpu gpu; do
  lock="$work/$target.txt"
  [ "${1:-}" = --upgrade ] || cp "$target.txt" "$lock" # the versions that uv keeps if it can
  resolve "$target" 3.11 --output-file "$lock" >/dev/null
  # the lock names the plain version; a CPU build's local version ("+cpu") is the installer's business
  sed 's/+cpu\( \|$\)/\1/' "$lock" >"$target.txt"
done
exec bash "$repository/scripts/lock.sh" --check
