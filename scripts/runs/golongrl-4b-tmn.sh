#!/usr/bin/env bash
# GoLongRL (arXiv 2605.19577) with Qwen3-4B-Thinking-2507 and TMN-Reweight, on 16 nodes of 8 GPUs, with Megatron-Core.
# Published: hyper-parameters and parallelism, in the released launch scripts (which their own framework rejects).
# Inferred: vLLM where they take SGLang; groups without signal are replaced one by one, where they generate 512 prompts
# to train on 128. Their clipping of rollout weights exists in no released code and is left out. Never run here.
#
#   TRAIN_FILES=train.parquet VAL_FILES=val.parquet bash scripts/runs/golongrl-4b-tmn.sh [--dry-run] [overrides...]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require TRAIN_FILES VAL_FILES
launch recipe.longrl.main method=golongrl model=qwen3-4b hardware=128gpu-megatron trainer.experiment_name=golongrl-4b-tmn \
  data.train_files="$(quoted "$TRAIN_FILES")" data.val_files="$(quoted "$VAL_FILES")" "$@"
