#!/usr/bin/env bash
# LongRL: train a language model on long documents with verifiable context rewards.
#
#   bash run_longrl.sh [overrides...]      the tiny end-to-end run on this machine, if neither data nor a model is given
#
#   TRAIN_FILES=... VAL_FILES=... MODEL_PATH=... CKPT_SAVE_PATH=... bash run_longrl.sh [overrides...]
#                                          the real run, published LongRLVR hyper-parameters on 8 GPUs
#
#   TRAIN_FILES, VAL_FILES  parquet files: one path, or a Hydra list "['a.parquet','b.parquet']"; or data.train_files=...
#                           and data.val_files=... among the overrides
#   MODEL_PATH              Hugging Face folder or name; or model=... or actor_rollout_ref.model.path=...
#   CKPT_SAVE_PATH          folder of the checkpoints
#   EXPERIMENT_NAME         name of the run (default longrlvr)
#   LONGRL_TARGET           gpu or cpu (default: gpu if this machine has one)
#   LONGRL_VENV             folder of the Python environment (default .venv)
#   --dry-run               check everything and print the plan, sizes and memory, but start nothing (needs no GPU)
#   --config, --version     print the configuration, or the versions
#   overrides               method=longrlvr|outcome_only|loongrl|golongrl, model=..., hardware=8gpu|16gpu|128gpu|1gpu|cpu
#                           and any Hydra key
#
# If the run is killed, rerun the same command: it resumes from the last complete checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/scripts/runs/common.sh"

# Whether variables or overrides name data, or a model other than the demo's.
has_data_or_model() {
  [ -z "${TRAIN_FILES:-}${VAL_FILES:-}${MODEL_PATH:-}" ] || return 0
  ! overridden data.train_files "$@" && ! overridden data.val_files "$@" &&
    ! overridden actor_rollout_ref.model.path "$@" && { ! overridden model "$@" || among model=demo "$@"; } || return 0
  return 1
}

if ! has_data_or_model "$@"; then
  if overridden longrl.reward.scorers "$@" && ! among model=demo "$@"; then
    echo "run_longrl.sh: longrl.reward.scorers is set, but no data is given. Fix: set TRAIN_FILES, VAL_FILES and" \
      "MODEL_PATH (see --help), or model=demo to use these scorers in the demo" >&2
    exit 2
  fi
  launch recipe.longrl.demo.run "$@"
fi
missing=()
overridden data.train_files "$@" || missing+=(TRAIN_FILES)
overridden data.val_files "$@" || missing+=(VAL_FILES)
overridden actor_rollout_ref.model.path "$@" || { overridden model "$@" && ! among model=custom "$@"; } ||
  missing+=(MODEL_PATH)
if among --dry-run "$@" || { ! among --config "$@" && ! among --config=changed "$@" && ! among --version "$@"; }; then
  require ${missing[@]+"${missing[@]}"}
fi
launch recipe.longrl.main \
  ${TRAIN_FILES:+data.train_files="$(quoted "$TRAIN_FILES")"} ${VAL_FILES:+data.val_files="$(quoted "$VAL_FILES")"} \
  ${MODEL_PATH:+actor_rollout_ref.model.path="$(quoted "$MODEL_PATH")"} \
  trainer.experiment_name="$(quoted "${EXPERIMENT_NAME:-longrlvr}")" \
  ${CKPT_SAVE_PATH:+trainer.default_local_dir="$(quoted "$CKPT_SAVE_PATH")"} "$@"
