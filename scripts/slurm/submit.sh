#!/usr/bin/env bash
# Submit a training run to Slurm; at the time limit it saves, requeues itself and goes on.
#
#   bash scripts/slurm/submit.sh [options] [sbatch options] overrides...
#
#   --module=MODULE   what runs: recipe.longrl.main (default) or recipe.longrl.curriculum
#   --seeds=LIST      an array job, one run per seed, such as 1-3 or 1,2,5 (and %2: two at a time), each with the seed's
#                     data and rollouts, its name and folders ending in -seedN
#   --dry-run         submit nothing: check the run here, as the module's own --dry-run does, and print the command
#   sbatch options    anything else that starts with --, written --name=value: --nodes=2 --time=24:00:00
#                     --gpus-per-node=8 --partition=... --account=...; --signal=B:USR1@1200 saves 20 instead of 10
#                     minutes ahead of the time limit
#   overrides         Hydra overrides, as for the module. trainer.nnodes is --nodes, trainer.n_gpus_per_node the GPUs.
#
# Variables, read at submission and in the job:
#   LONGRL_VENV              the environment, on a disk that every node sees (default: .venv of this repository)
#   LONGRL_LOGS              folder of the logs (default: logs), also on such a disk: JOB/attempt-N/{job,ray-NODE,
#                            train-NODE}.log, JOB/latest
#   LONGRL_LOCAL_DIR         on each node's own disk, for Ray and compile caches (default: /tmp/longrl-UID; short);
#                            made for this user alone (0700), and refused if it is another's
#   LONGRL_CONTAINER_IMAGE   image to run in, with LONGRL_CONTAINER_RUNTIME=pyxis or apptainer; Python is then the image's
#                            python3, or LONGRL_VENV's. LONGRL_CONTAINER_MOUNTS=/data:/data,... beside this repository,
#                            the current folder and the two above, which are mounted anyway
#   LONGRL_MAX_RESTARTS      the job is requeued so often at most (default: 100)
#   LONGRL_MAX_DEATHS        and no more when a worker has died in so many attempts in a row (default: 3)
#   LONGRL_JOIN_TIMEOUT      seconds that all nodes have for joining Ray (default: 900)
#   LONGRL_PREFLIGHT=0       no preflight on the nodes
#   LONGRL_HEAD_ADDRESS      IP address of the first node, where the one that Slurm and DNS give is not reachable
#   LONGRL_RAY_OPTIONS       more options of `ray start`, such as --num-gpus=8
#
# The job's exit status is the training's: 0 done, 2 refused by a check, 75 stopped after saving (submit the same again).
set -euo pipefail
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac
launcher=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

sbatch_options=() overrides=() seeds='' dry_run=''
for argument in "$@"; do
  case "$argument" in
    --dry-run) dry_run=yes ;;
    --module=*) export LONGRL_MODULE=${argument#*=} ;;
    --seeds=*) seeds=${argument#*=} ;;
    --array=*) echo "slurm: --array is for seeds here; use --seeds=${argument#*=}" >&2; exit 2 ;;
    --*) sbatch_options+=("$argument") ;;
    -*) echo "slurm: '$argument': write sbatch's options as --name=value" >&2; exit 2 ;;
    *=* | "~"*) overrides+=("$argument") ;;
    *) echo "slurm: '$argument' is neither an option (--name=value) nor an override (key=value)" >&2; exit 2 ;;
  esac
done
# shellcheck source=scripts/slurm/common.sh
source "$launcher/common.sh"
export LONGRL_ROOT=$root

output=$logs/slurm-%j.out
if [ -n "$seeds" ]; then
  grep -qE '^[0-9]+([,-][0-9]+)*(%[0-9]+)?$' <<<"$seeds" || die "--seeds=$seeds, expected e.g. 1-3 or 1,2,5"
  [[ " ${overrides[*]}" == *" trainer.experiment_name="* ]] ||
    die "--seeds needs trainer.experiment_name=NAME: the runs are named NAME-seedN"
  sbatch_options=(--array="$seeds" "${sbatch_options[@]}")
  output=$logs/slurm-%A_%a.out
fi
command=(sbatch --parsable --output="$output" "${sbatch_options[@]}" "$launcher/train.sbatch" "${overrides[@]}")
pasteable "${command[@]}"
if [ -n "$dry_run" ]; then
  if [ -x "$python" ]; then exec "$python" -m "$module" --dry-run "${overrides[@]}"; fi
  echo "slurm: $module is not checked, its Python is in the container"
  exit 0
fi
command -v sbatch >/dev/null || die "no sbatch on PATH; submit from a machine of the cluster (--dry-run needs none)"
mkdir -p "$logs"
job=$("${command[@]}")
job=${job%%;*}
echo "slurm: submitted job $job; its output is $logs/slurm-$job*.out, its logs will be in $logs/$job${seeds:+_SEED}/latest"
echo "slurm: to save and end it: scancel --batch --signal=TERM $job"
