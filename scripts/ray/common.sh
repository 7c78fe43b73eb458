# Sourced by start.sh and stop.sh: their --help, `read_hosts FILE`, `on HOST ACTION [--OPTION=VALUE...]`.
# shellcheck shell=bash
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac

port=${LONGRL_RAY_PORT:-6379}
fail() { echo "$(basename "$0"): $*" >&2; exit 2; }
[[ $port =~ ^[0-9]+$ ]] || fail "LONGRL_RAY_PORT is '$port', expected a number"

# hosts: names in the file's order; slots: GPUs of each, "" where Ray is to count them.
read_hosts() {
  local file=$1 line number=0 name rest bad=()
  local -A seen=()
  hosts=() slots=()
  [ -f "$file" ] && [ -r "$file" ] || fail "no host file at '$file'; a line is: HOST [slots=GPUS]   # comment"
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    line=${line%%#*}
    read -r name rest <<<"$line" || true
    [ -n "$name" ] || continue
    if [[ ! $name =~ ^([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9._:-]*$ ]] || [[ ! $rest =~ ^(slots=([0-9]+)[[:space:]]*)?$ ]]; then
      bad+=("$file:$number: '${line}' is not: HOST [slots=GPUS]")
    elif [ -n "${seen[$name]:-}" ]; then
      bad+=("$file:$number: $name again, as in line ${seen[$name]}")
    else
      seen[$name]=$number hosts+=("$name") slots+=("${BASH_REMATCH[2]:-}")
    fi
  done <"$file"
  [ ${#bad[@]} -eq 0 ] || fail "$(printf '%s\n' "${bad[@]}")"
  [ ${#hosts[@]} -gt 0 ] || fail "$file names no host; a line is: HOST [slots=GPUS]   # comment"
}

# node.sh on a host, over ssh and, with LONGRL_CONTAINER, inside what runs there; both see this checkout at its path. What
# is secret goes by standard input, for command lines can be read by everybody on a machine.
on() {
  local host=$1 ssh container
  shift
  words ssh "${LONGRL_SSH:-ssh -o BatchMode=yes -o ConnectTimeout=15}" && words container "${LONGRL_CONTAINER:-}" || return
  "${ssh[@]}" -- "$host" "$(printf '%q ' "${container[@]}" bash "$root/scripts/ray/node.sh" "$@")" 2>&1 |
    sed "s/^/$host: /"
}
