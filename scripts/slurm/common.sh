# Sourced by submit.sh and train.sbatch: the settings they share, from variables to checked values.
# shellcheck shell=bash disable=SC2034  # what is set here is used there
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

die() { echo "slurm: $*" >&2; exit 2; }

pasteable() { # what the user can paste
  local word words=()
  for word in "$@"; do words+=("$(printf '%q' "$word")"); done
  echo "${words[*]}"
}

module=${LONGRL_MODULE:-recipe.longrl.main}
logs=$(realpath -m "${LONGRL_LOGS:-logs}")
local_dir=${LONGRL_LOCAL_DIR:-/tmp/longrl-$(id -u)}
max_restarts=${LONGRL_MAX_RESTARTS:-100}
max_deaths=${LONGRL_MAX_DEATHS:-3}
join_timeout=${LONGRL_JOIN_TIMEOUT:-900}
image=${LONGRL_CONTAINER_IMAGE:-}
srun_options=() # how srun starts the container (pyxis)
inside=()       # what comes before a command to run it in the container (apptainer)

for name in max_restarts max_deaths join_timeout; do
  case "${!name}" in *[!0-9]* | "") die "LONGRL_${name^^} is '${!name}', expected a whole number" ;; esac
done
case "$local_dir" in /*) ;; *) die "LONGRL_LOCAL_DIR is '$local_dir', expected an absolute path on each node's own disk" ;; esac
# Ray's sockets lie there, and Linux allows 107 characters for a socket's path.
[ ${#local_dir} -le 26 ] || die "LONGRL_LOCAL_DIR is ${#local_dir} characters long ('$local_dir'), Ray's sockets leave room for 26"

module_file="$root/${module//.//}"
[ -f "$module_file.py" ] || [ -f "$module_file/__main__.py" ] ||
  die "no recipe module '$module' in $root; expected e.g. recipe.longrl.main or recipe.longrl.curriculum"

case "${LONGRL_CONTAINER_RUNTIME:-}" in
  "")
    [ -z "$image" ] || die "LONGRL_CONTAINER_IMAGE is set, but not what runs it: LONGRL_CONTAINER_RUNTIME=pyxis or apptainer"
    python=${LONGRL_VENV:-$root/.venv}/bin/python
    [ -x "$python" ] || die "no Python at $python; run 'bash scripts/setup.sh gpu' there, or set LONGRL_VENV" ;;
  pyxis | apptainer)
    [ -n "$image" ] || die "LONGRL_CONTAINER_RUNTIME=$LONGRL_CONTAINER_RUNTIME needs LONGRL_CONTAINER_IMAGE=IMAGE"
    python=${LONGRL_VENV:+$LONGRL_VENV/bin/}python3
    mounts="$root:$root,$PWD:$PWD,$logs:$logs,$local_dir:$local_dir${LONGRL_CONTAINER_MOUNTS:+,$LONGRL_CONTAINER_MOUNTS}"
    if [ "$LONGRL_CONTAINER_RUNTIME" = pyxis ]; then
      srun_options=(--container-image="$image" --container-mounts="$mounts" --container-workdir="$PWD")
    else
      inside=(apptainer exec --nv --bind "$mounts" --pwd "$PWD" "$image")
    fi ;;
  *) die "LONGRL_CONTAINER_RUNTIME is '$LONGRL_CONTAINER_RUNTIME', expected pyxis, apptainer or nothing" ;;
esac
