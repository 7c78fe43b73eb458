# Sourced by other scripts: `words NAME TEXT`, `private FOLDER...`, `find_uv SCRIPT`.
# shellcheck shell=bash

# Split TEXT into words like a command line, with quotes and over several lines, into the array NAME. Nothing in it is
# expanded or executed.
words() {
  local quoted
  quoted=$(xargs -r printf '%q ' <<<"$2") || { echo "cannot be split into words like a command line: $2" >&2; return 2; }
  eval "$1=($quoted)"
}

# Print the path of uv, for SCRIPT in the folder of the repository: the one on PATH, or the environment's.
find_uv() {
  local uv
  uv=$(command -v uv || echo "${LONGRL_VENV:-$PWD/.venv}/bin/uv")
  [ -x "$uv" ] || { echo "$1: no uv on PATH nor at $uv. Fix: run bash scripts/setup.sh, or set LONGRL_VENV" >&2; return 2; }
  echo "$uv"
}

# Create folders for this user only (0700), or check that existing ones are. In /tmp anybody can create a folder of a
# known name beforehand, and place links, pid files or code in it. Rejected, with the reason, are links, other users'
# folders, folders that others can write in, and folders that others can replace.
private() {
  local folder reason path above
  for folder in "$@"; do
    folder=$(realpath -ms -- "$folder") # With a slash at its end, a link would not be recognized as one.
    (umask 077 && mkdir -p -- "$folder") 2>/dev/null || true
    reason=
    if [ -L "$folder" ]; then reason="is a link"
    elif [ ! -d "$folder" ]; then reason="is not a folder and cannot be created"
    elif [ ! -O "$folder" ]; then reason="belongs to $(stat -c %U -- "$folder")"
    elif [ -n "$(find "$folder" -maxdepth 0 -perm /022)" ]; then reason="is writable by others"
    else
      above=()
      for path in "$folder" "$(realpath -- "$folder")"; do
        while [ -n "$path" ]; do path=${path%/*} above+=("${path:-/}"); done
      done
      # Folders above it must belong to this user or to root (who owns /proc, also in a container). Those that everybody
      # can write in must be sticky, as /tmp is.
      path=$(find "${above[@]}" -maxdepth 0 \( ! -uid "$(id -u)" ! -uid "$(stat -c %u /proc)" \
        -o ! -type l -perm -002 ! -perm -1000 \) -print -quit)
      [ -z "$path" ] || reason="can be replaced by others, who own $path or can write in it"
    fi
    [ -z "$reason" ] || { echo "$folder $reason. Fix: remove it, or use another folder" >&2; return 2; }
    chmod 700 -- "$folder"
  done
}
