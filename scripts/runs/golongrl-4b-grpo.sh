#!/usr/bin/env bash
# GoLongRL's GRPO baseline (arXiv 2605.19577) with Qwen3-4B-Thinking-2507, on 16 nodes of 8 GPUs, with Megatron-Core.
# Published and inferred: as golongrl-4b-tmn.sh, without TMN-Reweight.
#
#   TRAIN_FILES=train.parquet VAL_FILES=val.parquet bash scripts/runs/golongrl-4b-grpo.sh [--dry-run] [overrides...]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require TRAIN_FILES VAL_FILES
launch recipe.longrl.main method=golongrl longrl.advantage.estimator=upstream model=qwen3-4b hardware=128gpu-megatron trainer.experiment_name=golongrl-4b-grpo \
  data.train_files="$(quoted "$TRAIN_FILES")" data.val_files="$(quoted "$VAL_FILES")" "$@"
