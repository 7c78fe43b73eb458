"""A real pretrained model through the experiment's stages: data, cold start, training, held-out answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl_longrl.data.jsonl import read_jsonl

from recipe.longrl.demo.real_model import results
from recipe.longrl.demo.real_model.run import MODEL, Experiment, Scale
from recipe.longrl.demo.real_model.worlds import WORLDS
from recipe.longrl.pypi_models import local_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROWS = {"demos": (8, 1), "train": (4, 1), "val": (2, 1), "x1": (2, 1)}
ONE_STEP = (
    *("data.train_batch_size=2", "actor_rollout_ref.actor.ppo_mini_batch_size=2", "actor_rollout_ref.rollout.n=2"),
    # The log-probabilities of the rollouts are compared with the trainer's.
    *("algorithm.rollout_correction.bypass_mode=false", "trainer.val_before_train=false"),
)


def test_one_step_of_each_stage(tmp_path: Path):
    world = replace(WORLDS["planted"], chunks=4, rows=ROWS)
    scale = Scale(("planted",), ("longrlvr",), seeds=1, cold_steps=1, steps=1, test_freq=1)
    Experiment(world, tmp_path / "planted", scale, ONE_STEP).run(local_folder(MODEL))

    (step,) = [row for row in read_jsonl(tmp_path / "planted/longrlvr-1/metrics.jsonl") if row["split"] == "train"]
    assert step["training/rollout_probs_diff_max"] < 1e-3
    assert step["actor/grad_norm"] >= 0

    cold, trained = (tmp_path / "planted" / name / "export" for name in ("cold", "longrlvr-1"))
    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (cold, trained)]
    assert models[1].config.tie_word_embeddings
    assert (models[1].config.num_attention_heads, models[1].config.num_key_value_heads) == (9, 3)
    assert all(bool(weights.isfinite().all()) for weights in models[1].parameters())
    # The template writes a system prompt of its own.
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert len(tokenizer) == 49152
    assert "system" in tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)

    results.write_page(tmp_path, tmp_path / "page", ["planted"])
    text = (tmp_path / "page/real_model_tables.md").read_text()
    assert "| cited recall | cold start |" in text
    assert (tmp_path / "page/real_model_planted.png").stat().st_size > 10_000
    # Two rows of each file, answered by every model.
    measured = results.measure(tmp_path / "planted")
    assert {name: len(answers) for name, answers in measured.answers.items()} == dict.fromkeys(
        ("released", "cold", "longrlvr-1"), 4
    )
