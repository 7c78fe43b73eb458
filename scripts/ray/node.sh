#!/usr/bin/env bash
# What start.sh and stop.sh run on each host: one Ray node in the background, remembered in a folder for its port.
#
#   bash scripts/ray/node.sh head    --port=PORT --venv=VENV --dashboard-host=HOST --dashboard-port=PORT [--ip=IP]
#   bash scripts/ray/node.sh worker  --port=PORT --venv=VENV --address=HEAD:PORT
#   bash scripts/ray/node.sh wait    --port=PORT --venv=VENV --address=HEAD:PORT --nodes=COUNT
#   bash scripts/ray/node.sh stop    --port=PORT
#
#   --gpus=COUNT --temp=FOLDER --auth=token --more="OPTIONS of ray start"    also for head and worker
#   wait                  until so many nodes have joined; exit status 1 if they have not after five minutes
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac
action=${1:-}
declare -A given=()
for option in "${@:2}"; do
  name=${option%%=*}
  given[${name#--}]=${option#*=}
done
folder=${TMPDIR:-/tmp}/longrl-ray-$(id -u)/${given[port]:-none}
log=$folder/ray.log

# by its command line too: after a reboot the number may be another process's
alive() { [ -f "$folder/pid" ] && grep -qsz -e --block "/proc/$(cat "$folder/pid")/cmdline"; }

stop() {
  alive || { rm -rf "$folder"; echo "nothing of start.sh's runs here"; return; }
  local pid
  pid=$(cat "$folder/pid")
  kill -TERM "$pid" # `ray start --block` ends its processes with itself
  for _ in $(seq 150); do
    alive || break
    sleep 0.2
  done
  kill -KILL -- "-$pid" 2>/dev/null || true # its group: what did not end by then
  rm -rf "$folder"
  echo "stopped"
}

start() {
  # the agent through which jobs come has one fixed port, taken wherever another Ray runs on the host: any free one
  local options=("--dashboard-agent-listen-port=0") more=() pid
  ray=${given[venv]}/bin/ray
  [ -x "$ray" ] || { echo "no Ray at $ray; bash scripts/setup.sh on this host, or set LONGRL_VENV"; exit 1; }
  ! alive || { echo "runs already, process $(cat "$folder/pid"), log $log; bash scripts/ray/stop.sh first"; exit 1; }
  mkdir -p "$folder"
  read -ra more <<<"${given[more]:-}"
  [ -z "${given[gpus]:-}" ] || options+=("--num-gpus=${given[gpus]}")
  [ -z "${given[temp]:-}" ] || options+=("--temp-dir=${given[temp]}")
  # one of them for all hosts: by itself a head demands a token where it finds one, and a worker offers none
  export RAY_AUTH_MODE=${given[auth]:-disabled}
  setsid "$ray" start --block --disable-usage-stats "$@" "${options[@]}" "${more[@]}" >"$log" 2>&1 </dev/null &
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
    echo "address $(sed -n "s/.*ray start --address='\([^']*\)'.*/\1/p" "$log" | head -n 1)" ;;
  worker)
    start "--address=${given[address]}"
    echo "joined ${given[address]}" ;;
  wait)
    export RAY_ADDRESS=${given[address]}
    exec "${given[venv]}/bin/python" "$(dirname "${BASH_SOURCE[0]}")/wait_for_nodes.py" 300 "${given[nodes]}" ;;
  stop) stop ;;
  *) echo "node.sh: unknown action '$action'; expected head, worker, wait or stop" >&2; exit 2 ;;
esac
