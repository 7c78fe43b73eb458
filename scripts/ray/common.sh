# Sourced by start.sh and stop.sh: their --help, `read_hosts FILE`, `on HOST ACTION [--OPTION=VALUE...]`.
# shellcheck shell=bash
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac

port=${LONGRL_RAY_PORT:-6379}
fail() { echo "$(basename "$0"): $*" >&2; exit 2; }
[[ $port =~ ^[0-9]+$ ]] || fail "LONGRL_RAY_PORT = '$port': expected a number"

# Sets hosts, the names in the file's order, and slots, the GPUs of each ("" if Ray shall count them).
read_hosts() {
  local file=$1 line number=0 name rest bad=()
  local -A seen=()
  hosts=() slots=()
  [ -f "$file" ] && [ -r "$file" ] || fail "no host file at '$file'; expected a line for each host: HOST [slots=GPUS]   # comment"
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    line=${line%%#*}
    read -r name rest <<<"$line" || true
    [ -n "$name" ] || continue
    if [[ ! $name =~ ^([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9._:-]*$ ]] || [[ ! $rest =~ ^(slots=([0-9]+)[[:space:]]*)?$ ]]; then
      bad+=("$file:$number: '${line}': expected HOST [slots=GPUS]")
    elif [ -n "${seen[$name]:-}" ]; then
      bad+=("$file:$number: $name is in line ${seen[$name]} already")
    else
      seen[$name]=$number hosts+=("$name") slots+=("${BASH_REMATCH[2]:-}")
    fi
  done <"$file"
  [ ${#bad[@]} -eq 0 ] || fail "$(printf '%s\n' "${bad[@]}")"
  [ ${#hosts[@]} -gt 0 ] || fail "$file has no host; expected a line for each host: HOST [slots=GPUS]   # comment"
}

# Run node.sh on a host, over ssh and, with LONGRL_CONTAINER, inside a container that runs there. Both see this checkout
# at the same path. Secrets go through standard input, because everybody on a machine can read command lines.
on() {
  local host=$1 ssh container
  shift
  words ssh "${LONGRL_SSH:-ssh -o BatchMode=yes -o ConnectTimeout=15}" && words container "${LONGRL_CONTAINER:-}" || return
  "${ssh[@]}" -- "$host" "$(printf '%q ' "${container[@]}" bash "$root/scripts/ray/node.sh" "$@")" 2>&1 |
    sed "s/^/$host: /"
}
