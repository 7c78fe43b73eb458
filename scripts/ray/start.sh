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
#                         where the head takes jobs (default 8265 at 127.0.0.1: whoever reaches it can run anything)
#   LONGRL_RAY_OPTIONS    more options for `ray start` on every host, such as --num-cpus=64 --object-store-memory=...
#   LONGRL_RAY_TEMP       Ray's folder for logs and sockets (default /tmp/ray)
#   RAY_AUTH_MODE=token   ask whoever joins for the token in ~/.ray/auth_token of every host (default disabled)
#   LONGRL_CONTAINER      what runs a command in a running container of each host: "docker exec longrl",
#                         "apptainer exec instance://longrl"
#   LONGRL_SSH            default "ssh -o BatchMode=yes -o ConnectTimeout=15"
#   LONGRL_VENV           the environment, the same on every host (default .venv of this checkout)
#
# Variables for training are not needed here: they go with the run, see scripts/ray/submit.sh. What was started lies in
# a folder for this port in /tmp of each host, with ray.log; scripts/ray/stop.sh stops that and nothing else.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -ge 1 ] && [ $# -le 2 ] || fail "give a host file (see --help)"
read_hosts "$1"

same=("--port=${LONGRL_RAY_PORT:-6379}" "--venv=${LONGRL_VENV:-$root/.venv}" "--auth=${RAY_AUTH_MODE:-}"
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
  "--dashboard-host=${LONGRL_DASHBOARD_HOST:-127.0.0.1}" "--ip=${2:-}" | tee "$scratch/head" ||
  give_up "no head on ${hosts[0]}, see above"
started=("${hosts[0]}")
address=$(sed -n 's/.*: address //p' "$scratch/head")

declare -A joining=()
for i in "${!hosts[@]}"; do
  [ "$i" -eq 0 ] && continue
  on "${hosts[$i]}" worker "${same[@]}" "--gpus=${slots[$i]}" "--address=$address" &
  joining[${hosts[$i]}]=$!
done
failed=()
for host in "${hosts[@]:1}"; do
  if wait "${joining[$host]}"; then started+=("$host"); else failed+=("$host"); fi
done
[ ${#failed[@]} -eq 0 ] || give_up "no Ray on ${failed[*]}, see above"
echo "start.sh: ${#hosts[@]} nodes; RAY_ADDRESS=$address bash scripts/ray/submit.sh [overrides...]"
