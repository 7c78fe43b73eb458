#!/usr/bin/env bash
# LoongRL (arXiv 2510.19363) with Qwen2.5-14B-Instruct: KeyChain, hard mining and stage II, on two nodes of 8 GPUs.
# Published: batches of 256, no warm-up, and what loongrl-7b.sh says (sections 3.2 and 4.1, appendix A.6).
# Inferred: as in loongrl-7b.sh; epochs of stage II from its 150 steps.
#
#   STAGE1_FILES="[plain.parquet,keychain.parquet]" STAGE2_FILES="[plain.parquet,hard.parquet]" \
#   VAL_FILES=val.parquet bash scripts/runs/loongrl-14b.sh [--dry-run] [overrides...]    # MODEL_PATH: the weights, elsewhere
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require STAGE1_FILES STAGE2_FILES VAL_FILES
launch recipe.longrl.curriculum curriculum=loongrl-14b method=loongrl hardware=16gpu \
  actor_rollout_ref.model.path="$(quoted "${MODEL_PATH:-Qwen/Qwen2.5-14B-Instruct}")" trainer.experiment_name=loongrl-14b \
  data.val_files="$(quoted "$VAL_FILES")" stage1.data.train_files="$(quoted "$STAGE1_FILES")" \
  stage2.data.train_files="$(quoted "$STAGE2_FILES")" "$@"
