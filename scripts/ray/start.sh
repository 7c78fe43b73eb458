#!/usr/bin/env bash
# Start Ray on a list of hosts over ssh: a head on the first one, and the others join it. If one of them fails, those that
# were started are stopped. Every host needs this checkout and its environment at the same path, and ssh without a
# password.
#
#   bash scripts/ray/start.sh HOSTFILE [HEAD_ADDRESS]
#
#   HOSTFILE              a line for each host: HOST [slots=GPUS]; # begins a comment; without slots Ray counts the GPUs
#   HEAD_ADDRESS          address of the head for the others (default: the one that Ray finds on it)
#   LONGRL_RAY_PORT       port of the head (default 6379)
#   LONGRL_DASHBOARD_PORT, LONGRL_DASHBOARD_HOST
#                         where the head accepts jobs (default 8265 at 127.0.0.1; needs the token, as every port does)
#   LONGRL_RAY_OPTIONS    further options of `ray start` on every host, such as --num-cpus=64 --object-store-memory=...
#   LONGRL_RAY_TEMP       Ray's folder for logs, sockets and spilled objects, of at most 39 characters, for this user only
#                         (default: in the folder below)
#   RAY_AUTH_MODE=disabled
#                         no token: anybody who can reach a host over the network can run code there as you
#   LONGRL_CONTAINER      a command that runs another one in a running container of each host and forwards standard input:
#                         "docker exec -i longrl", "apptainer exec instance://longrl"
#   LONGRL_SSH            default "ssh -o BatchMode=yes -o ConnectTimeout=15"
#   LONGRL_VENV           the environment, the same on every host (default .venv of this checkout)
#
# Connections to this Ray need a token, a new one for each start. On each host the folder
# ${TMPDIR:-/tmp}/longrl-ray-UID/PORT, readable by this user only, holds ray.log and the token, which
# scripts/ray/submit.sh and the launchers find there. scripts/ray/stop.sh stops this Ray and removes the folder, and
# nothing else. Variables for the training are not set here, but with the run: see scripts/ray/submit.sh.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -ge 1 ] && [ $# -le 2 ] || fail "give a host file (see --help)"
read_hosts "$1"

case ${RAY_AUTH_MODE:=token} in
  token) token=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') ;;
  disabled)
    token=
    echo "start.sh: RAY_AUTH_MODE=disabled: anybody who can reach a host over the network can run code there as $(id -un)" >&2 ;;
  *) fail "RAY_AUTH_MODE = '$RAY_AUTH_MODE': expected token or disabled" ;;
esac
common_options=("--port=$port" "--venv=${LONGRL_VENV:-$root/.venv}" "--auth=$RAY_AUTH_MODE"
  "--temp=${LONGRL_RAY_TEMP:-}" "--more=${LONGRL_RAY_OPTIONS:-}")
scratch=$(mktemp -d)
started=()
# Stop the nodes that this call has started, never those that ran before.
give_up() {
  [ ${#started[@]} -eq 0 ] || printf '%s\n' "${started[@]}" >"$scratch/started"
  [ ${#started[@]} -eq 0 ] || bash "$root/scripts/ray/stop.sh" "$scratch/started" || true
  fail "$*"
}
trap 'rm -rf "$scratch"' EXIT
trap 'give_up interrupted' INT TERM

on "${hosts[0]}" head "${common_options[@]}" "--gpus=${slots[0]}" "--dashboard-port=${LONGRL_DASHBOARD_PORT:-8265}" \
  "--dashboard-host=${LONGRL_DASHBOARD_HOST:-127.0.0.1}" "--ip=${2:-}" <<<"$token" | tee "$scratch/head" ||
  give_up "the head on ${hosts[0]} did not start, see above"
started=("${hosts[0]}")
address=$(sed -n 's/.*: address //p' "$scratch/head")

declare -A joining=()
for i in "${!hosts[@]}"; do
  [ "$i" -eq 0 ] && continue
  on "${hosts[$i]}" worker "${common_options[@]}" "--gpus=${slots[$i]}" "--address=$address" <<<"$token" &
  joining[${hosts[$i]}]=$!
done
failed=()
for host in "${hosts[@]:1}"; do
  if wait "${joining[$host]}"; then started+=("$host"); else failed+=("$host"); fi
done
[ ${#failed[@]} -eq 0 ] || give_up "Ray did not start on ${failed[*]}, see above"
echo "start.sh: ${#hosts[@]} nodes; RAY_ADDRESS=$address bash scripts/ray/submit.sh [overrides...]"
