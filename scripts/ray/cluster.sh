# Sourced: the folder of a cluster of start.sh on its hosts, by the port of its head, and the token in that folder.
# shellcheck shell=bash
cluster_folder() { echo "${TMPDIR:-/tmp}/longrl-ray-$(id -u)/$1"; } # pid, address, token, ray.log, Ray's own folders

# Set Ray's authentication for a process of the cluster in this folder: its token, or none if the cluster has none.
use_token() {
  unset RAY_AUTH_TOKEN
  export RAY_AUTH_MODE=disabled
  [ ! -f "$1/token" ] || export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$1/token
}

# The same for the cluster at RAY_ADDRESS=HEAD:PORT, if it was started on this host and no token is set. The address must
# be that cluster's, because the token is sent to it, and whoever has the token can use the cluster.
find_token() {
  local address=${RAY_ADDRESS:-} folder
  folder=$(cluster_folder "${address##*:}")
  [ -z "${RAY_AUTH_MODE:-}" ] && [ -O "$folder" ] && [ -O "$folder/address" ] || return 0
  [ "$(cat "$folder/address")" != "$address" ] || use_token "$folder"
}
