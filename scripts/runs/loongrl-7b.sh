#!/usr/bin/env bash
# LoongRL (arXiv 2510.19363) with Qwen2.5-7B-Instruct: warm-up, KeyChain, hard mining and stage II, on two nodes of 8 GPUs.
# Published: learning rate, KL, batch, sampling, lengths and epochs of each stage (sections 3.2 and 4.1, appendix A.6).
# Inferred: clip range and KL estimator (verl's defaults), weight decay 0, a fresh optimizer for each stage; 16 GPUs.
#
#   WARMUP_FILES=plain.parquet STAGE1_FILES="[plain.parquet,keychain.parquet]" STAGE2_FILES="[plain.parquet,hard.parquet]" \
#   VAL_FILES=val.parquet bash scripts/runs/loongrl-7b.sh [--dry-run] [overrides...]    # MODEL_PATH: the weights, elsewhere
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require WARMUP_FILES STAGE1_FILES STAGE2_FILES VAL_FILES
launch recipe.longrl.curriculum curriculum=loongrl-7b method=loongrl hardware=16gpu \
  actor_rollout_ref.model.path="$(quoted "${MODEL_PATH:-Qwen/Qwen2.5-7B-Instruct}")" trainer.experiment_name=loongrl-7b \
  data.val_files="$(quoted "$VAL_FILES")" warmup.data.train_files="$(quoted "$WARMUP_FILES")" \
  stage1.data.train_files="$(quoted "$STAGE1_FILES")" stage2.data.train_files="$(quoted "$STAGE2_FILES")" "$@"
