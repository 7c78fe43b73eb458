#!/usr/bin/env bash
# Resolve requirements/{cpu,gpu}.in into complete pinned locks: bash scripts/lock.sh (maintainers only; needs uv)
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2p' "$0" | cut -c3-; exit 0 ;; esac
cd "$(dirname "$0")/../requirements"
options=(--python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header --annotation-style line --quiet)
# the lock names the plain version; a CPU build's local version ("+cpu") is the installer's business
uv pip compile "${options[@]}" cpu.in --override cpu-overrides.txt --config-file uv-lock-cpu.toml |
  sed 's/+cpu//' >cpu.txt.new
uv pip compile "${options[@]}" gpu.in --override gpu-overrides.txt --config-file uv-lock.toml >gpu.txt.new

# what was chosen for 3.11 must exist for 3.12 too, which setup.sh accepts (four packages are source only)
for lock in cpu gpu; do
  grep -vE '^(antlr4-python3-runtime|flash-attn|jieba|rouge-score)==' "$lock.txt.new" |
    uv pip install --dry-run --quiet --no-deps --only-binary :all: --python-version 3.12 \
      --python-platform x86_64-manylinux_2_36 --target "${TMPDIR:-/tmp}/longrl-lock" --requirements -
done
mv cpu.txt.new cpu.txt
mv gpu.txt.new gpu.txt
