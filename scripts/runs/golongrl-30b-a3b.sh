#!/usr/bin/env bash
# GoLongRL (arXiv 2605.19577) with Qwen3-30B-A3B-Thinking-2507, plain GRPO, on 16 nodes of 8 GPUs, with Megatron-Core.
# Published: hyper-parameters and parallelism (tensor 4, context 8, expert 4), in the released launch scripts.
# Inferred: as in golongrl-4b-tmn.sh.
#
#   TRAIN_FILES=train.parquet VAL_FILES=val.parquet bash scripts/runs/golongrl-30b-a3b.sh [--dry-run] [overrides...]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require TRAIN_FILES VAL_FILES
launch recipe.longrl.main method=golongrl longrl.advantage.estimator=upstream model=qwen3-30b-a3b hardware=128gpu-megatron-moe trainer.experiment_name=golongrl-30b-a3b \
  data.train_files="$(quoted "$TRAIN_FILES")" data.val_files="$(quoted "$VAL_FILES")" "$@"
