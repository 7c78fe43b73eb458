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
from recipe.longrl.demo.real_model.worlds import WORLDS, build_rows
from recipe.longrl.pypi_models import local_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROWS = {"demos": (8, 1), "train": (4, 1), "val": (2, 1), "x1": (2, 1)}
ONE_STEP = (
    *("data.train_batch_size=2", "actor_rollout_ref.actor.ppo_mini_batch_size=2", "actor_rollout_ref.rollout.n=2"),
    # The log-probabilities of the rollouts are compared with the trainer's.
    *("algorithm.rollout_correction.bypass_mode=false", "trainer.val_before_train=false"),
)


def test_one_step_of_each_stage(tmp_path: Path):
    scale = Scale(("planted",), ("longrlvr",), seeds=1, cold_steps=1, steps=1, test_freq=1)
    experiment = Experiment(replace(WORLDS["planted"], chunks=4, rows=ROWS), tmp_path, scale, ONE_STEP)
    build_rows(experiment.world, tmp_path, local_folder(MODEL))
    experiment.cold_start()
    experiment.train("longrlvr", 1)
    experiment.answer("longrlvr-1", str(tmp_path / "longrlvr-1"))

    (step,) = [row for row in read_jsonl(tmp_path / "longrlvr-1/metrics.jsonl") if row["split"] == "train"]
    assert step["training/rollout_probs_diff_max"] < 1e-3
    assert step["actor/grad_norm"] >= 0

    exports = [tmp_path / name / "export" for name in ("cold", "longrlvr-1")]
    cold, trained = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in exports)
    assert trained.config.tie_word_embeddings
    assert (trained.config.num_attention_heads, trained.config.num_key_value_heads) == (9, 3)
    assert all(bool(weights.isfinite().all()) for weights in trained.parameters())
    assert cold.state_dict().keys() == trained.state_dict().keys()
    # The template writes a system prompt of its own.
    tokenizer = AutoTokenizer.from_pretrained(exports[1])
    assert len(tokenizer) == 49152
    assert "system" in tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)

    measured = results.measure(tmp_path)
    assert [(answer.test, answer.row) for answer in measured.answers["longrlvr-1"]] == [("x1", 0), ("x1", 1)]
    assert all(answer.text for answer in measured.answers["longrlvr-1"])
