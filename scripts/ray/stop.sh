#!/usr/bin/env bash
# Stop the Ray that scripts/ray/start.sh started on a list of hosts, and nothing else that runs there.
#
#   bash scripts/ray/stop.sh HOSTFILE
#
#   LONGRL_RAY_PORT, LONGRL_CONTAINER, LONGRL_SSH    as for start.sh
#
# Exit status 1 if a host could not be reached; it is named. A host where nothing runs is not an error.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -eq 1 ] || fail "give the host file of start.sh (see --help)"
read_hosts "$1"
failed=()
for ((i = ${#hosts[@]} - 1; i >= 0; i--)); do # The head is stopped last.
  on "${hosts[$i]}" stop "--port=$port" </dev/null || failed+=("${hosts[$i]}")
done
[ ${#failed[@]} -eq 0 ] || { echo "stop.sh: not stopped on ${failed[*]}, see above" >&2; exit 1; }
