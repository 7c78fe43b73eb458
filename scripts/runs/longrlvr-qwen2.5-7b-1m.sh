#!/usr/bin/env bash
# LongRLVR (arXiv 2603.02146) with Qwen2.5-7B-Instruct-1M, on one node of 8 GPUs.
# Published: learning rate, batch, clipping, lengths, parallelism and epochs, in the released launch script.
# Inferred: FSDP2 and vLLM, where it takes FSDP1 and SGLang; log-probabilities in micro-batches of the update's size.
#
#   TRAIN_FILES=train.parquet VAL_FILES=val.parquet bash scripts/runs/longrlvr-qwen2.5-7b-1m.sh [--dry-run] [overrides...]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require TRAIN_FILES VAL_FILES
launch recipe.longrl.main method=longrlvr model=qwen2.5-7b-1m hardware=8gpu trainer.experiment_name=longrlvr-qwen2.5-7b-1m \
  data.train_files="$(quoted "$TRAIN_FILES")" data.val_files="$(quoted "$VAL_FILES")" "$@"
