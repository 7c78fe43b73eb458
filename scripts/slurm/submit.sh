#!/usr/bin/env bash
# Submit a training run to Slurm. At the time limit it saves a checkpoint, requeues itself and resumes.
#
#   bash scripts/slurm/submit.sh [options] [sbatch options] overrides...
#
#   --module=MODULE   module to run: recipe.longrl.main (default) or recipe.longrl.curriculum
#   --seeds=LIST      an array job with one run per seed, such as 1-3 or 1,2,5 (with %2: two at a time). Each has the
#                     seed's data and rollouts, and -seedN at the end of its name and folders
#   --dry-run         do not submit: check the run here, as the module's own --dry-run does, and print the command
#   sbatch options    anything else that starts with --, as --name=value: --nodes=2 --time=24:00:00 --gpus-per-node=8
#                     --partition=... --account=...; --signal=B:USR1@1200 saves 20 instead of 10 minutes before the
#                     time limit
#   overrides         Hydra overrides for the module, or YAML files of them. trainer.nnodes is set to --nodes, trainer.n_gpus_per_node to the GPUs
#
# Variables, read at submission and in the job:
#   LONGRL_VENV              Python environment, on a disk that every node sees (default: .venv of this repository)
#   LONGRL_LOGS              folder of the logs, also on such a disk (default: logs): JOB/attempt-N/{job,ray-NODE,
#                            train-NODE}.log, JOB/latest
#   LONGRL_LOCAL_DIR         folder on each node's own disk, for Ray and compile caches; a short path (default:
#                            /tmp/longrl-UID). It is created for this user only (0700), and another user's is rejected
#   LONGRL_CONTAINER_IMAGE   image to run in, with LONGRL_CONTAINER_RUNTIME=pyxis or apptainer; Python is then the image's
#                            python3, or LONGRL_VENV's. LONGRL_CONTAINER_MOUNTS=/data:/data,... are mounted in addition
#                            to this repository, the current folder, LONGRL_LOGS and LONGRL_LOCAL_DIR
#   LONGRL_MAX_RESTARTS      how many times the job is requeued at most (default: 100)
#   LONGRL_MAX_DEATHS        stop after this many attempts in a row in which a worker died (default: 3)
#   LONGRL_JOIN_TIMEOUT      seconds within which all nodes must join Ray (default: 900)
#   LONGRL_PREFLIGHT=0       skip the preflight on the nodes
#   LONGRL_HEAD_ADDRESS      IP address of the first node, if the one from Slurm and DNS cannot be reached
#   LONGRL_RAY_OPTIONS       further options of `ray start`, such as --num-gpus=8
#
# The job's exit status is the training's: 0 done, 2 rejected by a check, 75 stopped after saving (submit the same command
# again to resume).
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac
launcher=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

sbatch_options=() overrides=() seeds='' dry_run=''
for argument in "$@"; do
  case "$argument" in
    --dry-run) dry_run=yes ;;
    --module=*) export LONGRL_MODULE=${argument#*=} ;;
    --seeds=*) seeds=${argument#*=} ;;
    --array=*) echo "slurm: --array is used for seeds here. Fix: --seeds=${argument#*=}" >&2; exit 2 ;;
    --*) sbatch_options+=("$argument") ;;
    -*) echo "slurm: '$argument': write options of sbatch as --name=value" >&2; exit 2 ;;
    *=* | "~"* | *.yaml | *.yml) overrides+=("$argument") ;;
    *) echo "slurm: '$argument' is neither an option (--name=value) nor an override (key=value)" >&2; exit 2 ;;
  esac
done
# shellcheck source=scripts/slurm/common.sh
source "$launcher/common.sh"
export LONGRL_ROOT=$root

output=$logs/slurm-%j.out
if [ -n "$seeds" ]; then
  grep -qE '^[0-9]+([,-][0-9]+)*(%[0-9]+)?$' <<<"$seeds" || die "--seeds=$seeds: expected e.g. 1-3 or 1,2,5"
  [[ " ${overrides[*]}" == *" trainer.experiment_name="* ]] ||
    die "--seeds needs trainer.experiment_name=NAME: the runs are named NAME-seedN"
  sbatch_options=(--array="$seeds" "${sbatch_options[@]}")
  output=$logs/slurm-%A_%a.out
fi
command=(sbatch --parsable --output="$output" "${sbatch_options[@]}" "$launcher/train.sbatch" "${overrides[@]}")
pasteable "${command[@]}"
if [ -n "$dry_run" ]; then
  if [ -x "$python" ]; then exec "$python" -m "$module" --dry-run "${overrides[@]}"; fi
  echo "slurm: $module is not checked, because its Python is in the container"
  exit 0
fi
command -v sbatch >/dev/null || die "no sbatch on PATH. Fix: submit from a machine of the cluster (--dry-run works without)"
mkdir -p "$logs"
job=$("${command[@]}")
job=${job%%;*}
echo "slurm: submitted job $job; output in $logs/slurm-$job*.out, logs in $logs/$job${seeds:+_SEED}/latest"
echo "slurm: to save a checkpoint and end it: scancel --batch --signal=TERM $job"
