#!/usr/bin/env bash
# Start Ray on a list of hosts over ssh: the first is the head, the others join it. All or none: if one cannot, what
# was started is stopped. Every host has this checkout and its environment at the same path, and ssh without a password.
#
#   bash scripts/ray/start.sh HOSTFILE [HEAD_ADDRESS]
#
#   HOSTFILE              a line a host: HOST [slots=GPUS]; # begins a comment; without slots Ray counts the GPUs
#   HEAD_ADDRESS          how the others reach the head (default: the address that Ray finds on it)
#   LONGRL_RAY_PORT       port of the head (default 6379)
#   LONGRL_DASHBOARD_PORT, LONGRL_DASHBOARD_HOST
#                         where the head takes jobs (default 8265 at 127.0.0.1; asks for the token as every port does)
#   LONGRL_RAY_OPTIONS    more options for `ray start` on every host, such as --num-cpus=64 --object-store-memory=...
#   LONGRL_RAY_TEMP       Ray's folder for logs, sockets and spilled objects, of at most 39 characters and this user's
#                         alone (default: in the folder below)
#   RAY_AUTH_MODE=disabled
#                         no token: whoever reaches a host over the network runs code there as you
#   LONGRL_CONTAINER      what runs a command in a running container of each host and hands on standard input:
#                         "docker exec -i longrl", "apptainer exec instance://longrl"
#   LONGRL_SSH            default "ssh -o BatchMode=yes -o ConnectTimeout=15"
#   LONGRL_VENV           the environment, the same on every host (default .venv of this checkout)
#
# Whoever connects to this Ray is asked for a token that is made here, a new one at each start. What was started lies on
# each host in ${TMPDIR:-/tmp}/longrl-ray-UID/PORT, a folder of this user's alone, with ray.log and the token, which
# scripts/ray/submit.sh and the launchers find there; scripts/ray/stop.sh stops and removes that and nothing else.
# Variables for training are not needed here: they go with the run, see scripts/ray/submit.sh.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -ge 1 ] && [ $# -le 2 ] || fail "give a host file (see --help)"
read_hosts "$1"

case ${RAY_AUTH_MODE:=token} in
  token) token=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') ;;
  disabled)
    token=
    echo "start.sh: RAY_AUTH_MODE=disabled: whoever reaches a host over the network runs code there as $(id -un)" >&2 ;;
  *) fail "RAY_AUTH_MODE is '$RAY_AUTH_MODE', expected token or disabled" ;;
esac
same=("--port=$port" "--venv=${LONGRL_VENV:-$root/.venv}" "--auth=$RAY_AUTH_MODE"
  "--temp=${LONGRL_RAY_TEMP:-}" "--more=${LONGRL_RAY_OPTIONS:-}")
scratch=$(mktemp -d)
started=()
give_up() { # never what ran before
  [ ${#started[@]} -eq 0 ] || printf '%s\n' "${started[@]}" >"$scratch/started"
  [ ${#started[@]} -eq 0 ] || bash "$root/scripts/ray/stop.sh" "$scratch/started" || true
  fail "$*"
}
trap 'rm -rf "$scratch"' EXIT
trap 'give_up interrupted' INT TERM

on "${hosts[0]}" head "${same[@]}" "--gpus=${slots[0]}" "--dashboard-port=${LONGRL_DASHBOARD_PORT:-8265}" \
  "--dashboard-host=${LONGRL_DASHBOARD_HOST:-127.0.0.1}" "--ip=${2:-}" <<<"$token" | tee "$scratch/head" ||
  give_up "no head on ${hosts[0]}, see above"
started=("${hosts[0]}")
address=$(sed -n 's/.*: address //p' "$scratch/head")

declare -A joining=()
for i in "${!hosts[@]}"; do
  [ "$i" -eq 0 ] && continue
  on "${hosts[$i]}" worker "${same[@]}" "--gpus=${slots[$i]}" "--address=$address" <<<"$token" &
  joining[${hosts[$i]}]=$!
done
failed=()
for host in "${hosts[@]:1}"; do
  if wait "${joining[$host]}"; then started+=("$host"); else failed+=("$host"); fi
done
[ ${#failed[@]} -eq 0 ] || give_up "no Ray on ${failed[*]}, see above"
echo "start.sh: ${#hosts[@]} nodes; RAY_ADDRESS=$address bash scripts/ray/submit.sh [overrides...]"
