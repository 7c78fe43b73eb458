"""Options that only show in a run: a judge served by verl itself, RoPE scaling on both engines, filtered groups."""

import json

import pytest
from verl_longrl.data.jsonl import read_jsonl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_served_judge_rope_and_filter_groups(run):
    process = run.start(
        "trainer.total_training_steps=2",
        "trainer.save_freq=-1",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        # The demo's own model as judge: it is reached and replies, but knows no verdicts.
        "longrl.reward.answer.by=reward_model",
        f"reward.reward_model.model_path={run.assets / 'model'}",
        "reward.reward_model.rollout.max_model_len=1500",
        "longrl.judge.max_tokens=16",
        "longrl.judge.max_context_chars=200",
        "longrl.judge.max_candidate_chars=200",
        "longrl.judge.attempts=2",
        "longrl.reward.max_failure_share=1.0",
        "longrl.rope={rope_type: yarn, factor: 2.0, original_max_position_embeddings: 2048}",
        "algorithm.filter_groups.enable=true",
    )
    assert run.finish(process) == 0, run.console[-4000:]
    train = run.rows("train")
    assert [row["step"] for row in train] == [1, 2]

    # both engines read the same scaled positions
    served = json.loads((run.output / "model" / "config.json").read_text())
    assert (served["rope_parameters"]["rope_type"], served["rope_parameters"]["factor"]) == ("yarn", 2.0)
    for row in train:
        assert row["training/rollout_probs_diff_valid"] == 1
        assert row["training/rollout_probs_diff_max"] < 1e-4

    # groups without signal were sampled again, so none was trained on
    assert all(row["group/zero_variance_frac"] == 0 for row in train)

    # the judge that verl serves was asked and answered; no verdict leaves the rule's score, with the reason
    scored = [row for step in (1, 2) for row in read_jsonl(run.output / "rollouts" / "train" / f"{step}.jsonl")]
    undecided = [row for row in scored if row["status"] == "judge_error"]
    assert undecided
    for row in undecided:
        assert "the judge" in row["reason"], row["reason"]
        assert "its reply" in row["reason"] or "reply was cut off" in row["reason"], row["reason"]
        assert row["judge_fallback"] == 1.0
