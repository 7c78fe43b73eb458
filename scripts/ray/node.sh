#!/usr/bin/env bash
# Run on each host by start.sh and stop.sh: start or stop one Ray node in the background. Its state is in a folder for its
# port, which only this user can read.
#
#   bash scripts/ray/node.sh head    --port=PORT --venv=VENV --dashboard-host=HOST --dashboard-port=PORT [--ip=IP]
#   bash scripts/ray/node.sh worker  --port=PORT --venv=VENV --address=HEAD:PORT
#   bash scripts/ray/node.sh wait    --port=PORT --venv=VENV --address=HEAD:PORT --nodes=COUNT
#   bash scripts/ray/node.sh stop    --port=PORT
#
#   --gpus=COUNT --temp=FOLDER --more="OPTIONS of ray start"    also for head and worker
#   --auth=disabled       for head and worker: no token; without it, the token is the first line of standard input
#   wait                  until COUNT nodes have joined; exit status 1 if they have not after five minutes
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/../lib.sh"
# shellcheck source=scripts/ray/cluster.sh
source "$here/cluster.sh"
action=${1:-}
declare -A options=()
for option in "${@:2}"; do
  name=${option%%=*}
  options[${name#--}]=${option#*=}
done
[[ ${options[port]:-} =~ ^[0-9]+$ ]] || { echo "node.sh: --port=${options[port]:-}: expected a number" >&2; exit 2; }
folder=$(cluster_folder "${options[port]}")
private "${folder%/*}" "$folder"
log=$folder/ray.log
starter=$here/ray_start.py

# Whether the process runs. Checks its owner, command line and folder too: after a reboot, another process may have the pid.
alive() {
  local pid
  pid=$(cat "$folder/pid" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] && [ -O "/proc/$pid" ] &&
    grep -qzxF -e "$starter" "/proc/$pid/cmdline" && grep -qzxF -e "TMPDIR=$folder/tmp" "/proc/$pid/environ"
}

stop() {
  local pid outcome="no Ray of start.sh runs here"
  if alive; then
    pid=$(cat "$folder/pid")
    kill -TERM "$pid" # `ray start --block` then ends its own processes.
    for _ in $(seq 150); do
      alive || break
      sleep 0.2
    done
    kill -KILL -- "-$pid" 2>/dev/null || true # The rest of its process group.
    outcome="stopped"
  fi
  rm -rf "$folder"
  rmdir "${folder%/*}" 2>/dev/null || true
  echo "$outcome"
}

start() {
  local python=${options[venv]}/bin/python temp=${options[temp]:-$folder} token pid
  # The agent's default port is taken if another Ray runs on the host, so let Ray choose a free one. Ray's folder is below
  # a private one, because Ray makes it accessible to everybody (0777).
  local ray_options=("--dashboard-agent-listen-port=0" "--temp-dir=$temp/ray") more
  [ -x "$python" ] || { echo "no Python at $python. Fix: run bash scripts/setup.sh on this host, or set LONGRL_VENV"; exit 1; }
  ! alive || { echo "already running: process $(cat "$folder/pid"), log $log. Fix: run bash scripts/ray/stop.sh first"; exit 1; }
  [ ${#temp} -le 39 ] || { echo "$temp: ${#temp} characters, but Ray's sockets leave room for 39. Fix: set LONGRL_RAY_TEMP"; exit 1; }
  rm -rf "$folder"
  private "$folder" "$folder/tmp" "$temp"
  if [ "${options[auth]:-token}" = token ]; then
    IFS= read -r -t 30 token || true
    [ -n "$token" ] ||
      { echo "no token on standard input. Fix: LONGRL_CONTAINER must forward it, as \"docker exec -i NAME\" does"; exit 1; }
    (umask 077 && printf '%s' "$token" >"$folder/token")
  fi
  use_token "$folder"
  words more "${options[more]:-}"
  [ -z "${options[gpus]:-}" ] || ray_options+=("--num-gpus=${options[gpus]}")
  # Workers' temporary files, such as vLLM's sockets, are in a private folder too.
  TMPDIR=$folder/tmp setsid "$python" "$starter" --block --disable-usage-stats "$@" "${ray_options[@]}" "${more[@]}" \
    >"$log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$folder/pid"
  for _ in $(seq 600); do
    sleep 0.2
    grep -q "Ray runtime started" "$log" && return
    kill -0 "$pid" 2>/dev/null || break
  done
  tail -n 20 "$log"
  stop >/dev/null
  echo "ray start failed, see above"
  exit 1
}

case $action in
  head)
    head_options=("--head" "--port=${options[port]}" "--dashboard-host=${options[dashboard-host]}" "--dashboard-port=${options[dashboard-port]}")
    [ -z "${options[ip]:-}" ] || head_options+=("--node-ip-address=${options[ip]}")
    start "${head_options[@]}"
    sed -n "s/.*ray start --address='\([^']*\)'.*/\1/p" "$log" | head -n 1 >"$folder/address"
    echo "address $(cat "$folder/address")" ;;
  worker)
    start "--address=${options[address]}"
    echo "${options[address]}" >"$folder/address"
    echo "joined ${options[address]}" ;;
  wait)
    export RAY_ADDRESS=${options[address]}
    use_token "$folder"
    exec "${options[venv]}/bin/python" "$here/wait_for_nodes.py" 300 "${options[nodes]}" ;;
  stop) stop ;;
  *) echo "node.sh: unknown action '$action'; expected head, worker, wait or stop" >&2; exit 2 ;;
esac
