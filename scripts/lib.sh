# Sourced by the launchers: `words NAME TEXT`, `private FOLDER...`.
# shellcheck shell=bash

# TEXT as a command line is split, quotes and lines too, into the array NAME; nothing in it is expanded or run.
words() {
  local quoted
  quoted=$(xargs -r printf '%q ' <<<"$2") || { echo "not the words of a command line: $2" >&2; return 2; }
  eval "$1=($quoted)"
}

# Folders for this user alone, made (0700) or proven to be. Anybody can make a folder in /tmp whose name is known
# beforehand, with links, pid files or code in it, and wait. Refused with the reason are links, other users' folders,
# those that others can write in, and those that others can put something else in the place of.
private() {
  local folder reason path above
  for folder in "$@"; do
    folder=$(realpath -ms -- "$folder") # a slash at its end would hide that it is a link
    (umask 077 && mkdir -p -- "$folder") 2>/dev/null || true
    reason=
    if [ -L "$folder" ]; then reason="is a link"
    elif [ ! -d "$folder" ]; then reason="is no folder and cannot be made"
    elif [ ! -O "$folder" ]; then reason="belongs to $(stat -c %U -- "$folder")"
    elif [ -n "$(find "$folder" -maxdepth 0 -perm /022)" ]; then reason="can be written in by others"
    else
      above=()
      for path in "$folder" "$(realpath -- "$folder")"; do
        while [ -n "$path" ]; do path=${path%/*} above+=("${path:-/}"); done
      done
      # what is above belongs to this user or to root, who owns /proc; where all can write, as in /tmp, it is sticky
      path=$(find "${above[@]}" -maxdepth 0 \( ! -uid "$(id -u)" ! -uid "$(stat -c %u /proc)" \
        -o ! -type l -perm -002 ! -perm -1000 \) -print -quit)
      [ -z "$path" ] || reason="can be replaced by others, who own $path or can write in it"
    fi
    [ -z "$reason" ] || { echo "$folder $reason: remove it, or name another folder" >&2; return 2; }
    chmod 700 -- "$folder"
  done
}
