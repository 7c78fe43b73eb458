#!/usr/bin/env bash
# LongRLVR (arXiv 2603.02146) with Qwen2.5-14B-Instruct-1M, on two nodes of 8 GPUs.
# Published: learning rate, batch, clipping, lengths and epochs, in the released launch script, which is for all models.
# Inferred: two nodes (one node holds it, with less room: hardware=8gpu); FSDP2 and vLLM for FSDP1 and SGLang.
#
#   TRAIN_FILES=train.parquet VAL_FILES=val.parquet bash scripts/runs/longrlvr-qwen2.5-14b-1m.sh [--dry-run] [overrides...]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require TRAIN_FILES VAL_FILES
launch recipe.longrl.main method=longrlvr model=qwen2.5-14b-1m hardware=16gpu trainer.experiment_name=longrlvr-qwen2.5-14b-1m \
  data.train_files="$(quoted "$TRAIN_FILES")" data.val_files="$(quoted "$VAL_FILES")" "$@"
