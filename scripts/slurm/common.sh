# Sourced by submit.sh and train.sbatch: reads the variables that both use, and checks them.
# shellcheck shell=bash disable=SC2034  # used by the scripts that source this
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

die() { echo "slurm: $*" >&2; exit 2; }

pasteable() { # quoted words, to paste into a shell
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
  case "${!name}" in *[!0-9]* | "") die "LONGRL_${name^^} = '${!name}': expected a whole number" ;; esac
done
case "$local_dir" in /*) ;; *) die "LONGRL_LOCAL_DIR = '$local_dir': expected an absolute path on each node's own disk" ;; esac
# Ray's sockets are there, and Linux limits the path of a socket to 107 characters.
[ ${#local_dir} -le 26 ] || die "LONGRL_LOCAL_DIR = '$local_dir': ${#local_dir} characters, but Ray's sockets leave room for 26"

module_file="$root/${module//.//}"
[ -f "$module_file.py" ] || [ -f "$module_file/__main__.py" ] ||
  die "LONGRL_MODULE = '$module': no such module in $root; expected e.g. recipe.longrl.main or recipe.longrl.curriculum"

case "${LONGRL_CONTAINER_RUNTIME:-}" in
  "")
    [ -z "$image" ] || die "LONGRL_CONTAINER_IMAGE is set without a runtime. Fix: set LONGRL_CONTAINER_RUNTIME=pyxis or apptainer"
    python=${LONGRL_VENV:-$root/.venv}/bin/python
    [ -x "$python" ] || die "no Python at $python. Fix: run 'bash scripts/setup.sh gpu' there, or set LONGRL_VENV" ;;
  pyxis | apptainer)
    [ -n "$image" ] || die "LONGRL_CONTAINER_RUNTIME=$LONGRL_CONTAINER_RUNTIME needs LONGRL_CONTAINER_IMAGE=IMAGE"
    python=${LONGRL_VENV:+$LONGRL_VENV/bin/}python3
    mounts="$root:$root,$PWD:$PWD,$logs:$logs,$local_dir:$local_dir${LONGRL_CONTAINER_MOUNTS:+,$LONGRL_CONTAINER_MOUNTS}"
    if [ "$LONGRL_CONTAINER_RUNTIME" = pyxis ]; then
      srun_options=(--container-image="$image" --container-mounts="$mounts" --container-workdir="$PWD")
    else
      inside=(apptainer exec --nv --bind "$mounts" --pwd "$PWD" "$image")
    fi ;;
  *) die "LONGRL_CONTAINER_RUNTIME = '$LONGRL_CONTAINER_RUNTIME': expected pyxis, apptainer or nothing" ;;
esac
