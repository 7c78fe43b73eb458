#!/usr/bin/env bash
# What start.sh and stop.sh run on each host: one Ray node in the background, remembered in a folder for its port that is
# this user's alone.
#
#   bash scripts/ray/node.sh head    --port=PORT --venv=VENV --dashboard-host=HOST --dashboard-port=PORT [--ip=IP]
#   bash scripts/ray/node.sh worker  --port=PORT --venv=VENV --address=HEAD:PORT
#   bash scripts/ray/node.sh wait    --port=PORT --venv=VENV --address=HEAD:PORT --nodes=COUNT
#   bash scripts/ray/node.sh stop    --port=PORT
#
#   --gpus=COUNT --temp=FOLDER --more="OPTIONS of ray start"    also for head and worker
#   --auth=disabled       for head and worker: no token; otherwise it is the first line of standard input
#   wait                  until so many nodes have joined; exit status 1 if they have not after five minutes
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/../lib.sh"
# shellcheck source=scripts/ray/cluster.sh
source "$here/cluster.sh"
action=${1:-}
declare -A given=()
for option in "${@:2}"; do
  name=${option%%=*}
  given[${name#--}]=${option#*=}
done
[[ ${given[port]:-} =~ ^[0-9]+$ ]] || { echo "node.sh: --port=${given[port]:-}, expected a number" >&2; exit 2; }
folder=$(cluster_folder "${given[port]}")
private "${folder%/*}" "$folder"
log=$folder/ray.log
starter=$here/ray_start.py

# by its owner, command line and folder, too: after a reboot the number may be another process's
alive() {
  local pid
  pid=$(cat "$folder/pid" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] && [ -O "/proc/$pid" ] &&
    grep -qzxF -e "$starter" "/proc/$pid/cmdline" && grep -qzxF -e "TMPDIR=$folder/tmp" "/proc/$pid/environ"
}

stop() {
  local pid said="nothing of start.sh's runs here"
  if alive; then
    pid=$(cat "$folder/pid")
    kill -TERM "$pid" # `ray start --block` ends its processes with itself
    for _ in $(seq 150); do
      alive || break
      sleep 0.2
    done
    kill -KILL -- "-$pid" 2>/dev/null || true # its group: what did not end by then
    said="stopped"
  fi
  rm -rf "$folder"
  rmdir "${folder%/*}" 2>/dev/null || true
  echo "$said"
}

start() {
  local python=${given[venv]}/bin/python temp=${given[temp]:-$folder} token pid
  # the agent through which jobs come has one fixed port, taken wherever another Ray runs on the host: any free one
  local options=("--dashboard-agent-listen-port=0" "--temp-dir=$temp/ray") more # which Ray opens to everybody (0777)
  [ -x "$python" ] || { echo "no Python at $python; bash scripts/setup.sh on this host, or set LONGRL_VENV"; exit 1; }
  ! alive || { echo "runs already, process $(cat "$folder/pid"), log $log; bash scripts/ray/stop.sh first"; exit 1; }
  [ ${#temp} -le 39 ] || { echo "Ray's sockets leave room for 39 characters, not for $temp; set LONGRL_RAY_TEMP"; exit 1; }
  rm -rf "$folder"
  private "$folder" "$folder/tmp" "$temp"
  if [ "${given[auth]:-token}" = token ]; then
    IFS= read -r -t 30 token || true
    [ -n "$token" ] ||
      { echo "no token on standard input; LONGRL_CONTAINER has to hand it on, as \"docker exec -i NAME\" does"; exit 1; }
    (umask 077 && printf '%s' "$token" >"$folder/token")
  fi
  use_token "$folder"
  words more "${given[more]:-}"
  [ -z "${given[gpus]:-}" ] || options+=("--num-gpus=${given[gpus]}")
  # what workers leave in a temporary folder, such as vLLM's sockets, is as private as Ray's own
  TMPDIR=$folder/tmp setsid "$python" "$starter" --block --disable-usage-stats "$@" "${options[@]}" "${more[@]}" \
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
    options=("--head" "--port=${given[port]}" "--dashboard-host=${given[dashboard-host]}" "--dashboard-port=${given[dashboard-port]}")
    [ -z "${given[ip]:-}" ] || options+=("--node-ip-address=${given[ip]}")
    start "${options[@]}"
    sed -n "s/.*ray start --address='\([^']*\)'.*/\1/p" "$log" | head -n 1 >"$folder/address"
    echo "address $(cat "$folder/address")" ;;
  worker)
    start "--address=${given[address]}"
    echo "${given[address]}" >"$folder/address"
    echo "joined ${given[address]}" ;;
  wait)
    export RAY_ADDRESS=${given[address]}
    use_token "$folder"
    exec "${given[venv]}/bin/python" "$here/wait_for_nodes.py" 300 "${given[nodes]}" ;;
  stop) stop ;;
  *) echo "node.sh: unknown action '$action'; expected head, worker, wait or stop" >&2; exit 2 ;;
esac
