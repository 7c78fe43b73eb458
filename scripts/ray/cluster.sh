# Sourced: where a cluster of start.sh, known by its head's port, lies on a host of it, and how its token is found there.
# shellcheck shell=bash
cluster_folder() { echo "${TMPDIR:-/tmp}/longrl-ray-$(id -u)/$1"; } # pid, address, token, ray.log, Ray's own folders

# What a process of the cluster in this folder needs for being believed; without a token, nothing is asked.
use_token() {
  unset RAY_AUTH_TOKEN
  export RAY_AUTH_MODE=disabled
  [ ! -f "$1/token" ] || export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$1/token
}

# The same for the cluster at RAY_ADDRESS=HEAD:PORT if it was started on this host and no token is given: to the address
# that it has and to no other, for who is told a token can use it.
find_token() {
  local address=${RAY_ADDRESS:-} folder
  folder=$(cluster_folder "${address##*:}")
  [ -z "${RAY_AUTH_MODE:-}" ] && [ -O "$folder" ] && [ -O "$folder/address" ] || return 0
  [ "$(cat "$folder/address")" != "$address" ] || use_token "$folder"
}
