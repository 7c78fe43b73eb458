#!/usr/bin/env bash
# LongRL: train a language model on long documents with verifiable context rewards.
#
#   bash run_longrl.sh [overrides...]      with nothing set: the tiny end-to-end run on whatever this machine has
#
#   TRAIN_FILES=... VAL_FILES=... MODEL_PATH=... CKPT_SAVE_PATH=... bash run_longrl.sh [overrides...]
#                                          the real run, published LongRLVR hyper-parameters on 8 GPUs
#
#   TRAIN_FILES, VAL_FILES  parquet files: one path, or a Hydra list "['a.parquet','b.parquet']"
#   MODEL_PATH              Hugging Face folder or name       CKPT_SAVE_PATH  where checkpoints go
#   EXPERIMENT_NAME         name of the run (default longrlvr)
#   LONGRL_TARGET, LONGRL_VENV
#                           gpu or cpu (default: what this machine has) and another place for the environment
#   --dry-run               check everything, print sizes and memory, start nothing (needs no GPU)
#   overrides               method=longrlvr|outcome_only|loongrl|golongrl, model=..., hardware=8gpu|16gpu|128gpu|1gpu|cpu
#                           and any Hydra key
#
# Killed at any moment, the same command continues from the last whole checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/scripts/runs/common.sh"

given=()
for name in TRAIN_FILES VAL_FILES MODEL_PATH; do [ -z "${!name:-}" ] || given+=("$name"); done
[ ${#given[@]} -gt 0 ] || launch recipe.longrl.demo.run "$@"
needs TRAIN_FILES VAL_FILES MODEL_PATH
launch recipe.longrl.main \
  data.train_files="$(quoted "$TRAIN_FILES")" data.val_files="$(quoted "$VAL_FILES")" \
  actor_rollout_ref.model.path="$(quoted "$MODEL_PATH")" \
  trainer.experiment_name="$(quoted "${EXPERIMENT_NAME:-longrlvr}")" \
  ${CKPT_SAVE_PATH:+trainer.default_local_dir="$(quoted "$CKPT_SAVE_PATH")"} "$@"
