#!/usr/bin/env bash
# LongRLVR (arXiv 2603.02146) with Llama-3.1-8B-Instruct, on one node of 8 GPUs.
# Published: learning rate, batch, clipping, lengths and epochs, in the released launch script, which is for all models.
# Inferred: FSDP2 and vLLM, where it takes FSDP1 and SGLang.
#
#   TRAIN_FILES=train.parquet VAL_FILES=val.parquet bash scripts/runs/longrlvr-llama-3.1-8b.sh [--dry-run] [overrides...]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require TRAIN_FILES VAL_FILES
launch recipe.longrl.main method=longrlvr model=llama-3.1-8b hardware=8gpu trainer.experiment_name=longrlvr-llama-3.1-8b \
  data.train_files="$(quoted "$TRAIN_FILES")" data.val_files="$(quoted "$VAL_FILES")" "$@"
