#!/usr/bin/env bash
# LongRL: train a language model on long documents with verifiable context rewards.
#
#   bash run_longrl.sh [overrides...]      with neither data nor a model named: the tiny end-to-end run on whatever this
#                                          machine has
#
#   TRAIN_FILES=... VAL_FILES=... MODEL_PATH=... CKPT_SAVE_PATH=... bash run_longrl.sh [overrides...]
#                                          the real run, published LongRLVR hyper-parameters on 8 GPUs
#
#   TRAIN_FILES, VAL_FILES  parquet files: one path, or a Hydra list "['a.parquet','b.parquet']"; or data.train_files=...
#                           and data.val_files=... among the overrides
#   MODEL_PATH              Hugging Face folder or name; or model=... or actor_rollout_ref.model.path=...
#   CKPT_SAVE_PATH          where checkpoints go
#   EXPERIMENT_NAME         name of the run (default longrlvr)
#   LONGRL_TARGET, LONGRL_VENV
#                           gpu or cpu (default: what this machine has) and another place for the environment
#   --dry-run               check everything, print the plan, sizes and memory, start nothing (needs no GPU)
#   --config, --version     print the configuration; the versions
#   overrides               method=longrlvr|outcome_only|loongrl|golongrl, model=..., hardware=8gpu|16gpu|128gpu|1gpu|cpu
#                           and any Hydra key
#
# Killed at any moment, the same command continues from the last whole checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/scripts/runs/common.sh"

named() { # whether variables or overrides name data or a model, other than the demo's
  [ -z "${TRAIN_FILES:-}${VAL_FILES:-}${MODEL_PATH:-}" ] || return 0
  ! overridden data.train_files "$@" && ! overridden data.val_files "$@" &&
    ! overridden actor_rollout_ref.model.path "$@" && { ! overridden model "$@" || among model=demo "$@"; } || return 0
  return 1
}

if ! named "$@"; then
  if overridden longrl.reward.scorers "$@" && ! among model=demo "$@"; then
    echo "run_longrl.sh: longrl.reward.scorers names rewards for rows of yours, and no data is given: set TRAIN_FILES," \
      "VAL_FILES and MODEL_PATH (see --help), or model=demo to use them in the demo" >&2
    exit 2
  fi
  launch recipe.longrl.demo.run "$@"
fi
needed=()
overridden data.train_files "$@" || needed+=(TRAIN_FILES)
overridden data.val_files "$@" || needed+=(VAL_FILES)
overridden actor_rollout_ref.model.path "$@" || { overridden model "$@" && ! among model=custom "$@"; } ||
  needed+=(MODEL_PATH)
if among --dry-run "$@" || { ! among --config "$@" && ! among --config=changed "$@" && ! among --version "$@"; }; then
  needs ${needed[@]+"${needed[@]}"}
fi
launch recipe.longrl.main \
  ${TRAIN_FILES:+data.train_files="$(quoted "$TRAIN_FILES")"} ${VAL_FILES:+data.val_files="$(quoted "$VAL_FILES")"} \
  ${MODEL_PATH:+actor_rollout_ref.model.path="$(quoted "$MODEL_PATH")"} \
  trainer.experiment_name="$(quoted "${EXPERIMENT_NAME:-longrlvr}")" \
  ${CKPT_SAVE_PATH:+trainer.default_local_dir="$(quoted "$CKPT_SAVE_PATH")"} "$@"
