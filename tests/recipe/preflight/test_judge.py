"""The judge: endpoints that answer, or a model that verl can serve."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine


def test_unreachable_judge_is_found_with_its_address(check):
    found = check("longrl.reward.answer.by=judge", "longrl.judge.endpoints=[http://127.0.0.1:9/v1]")
    assert found["judge"][0] == "FAIL"
    assert "http://127.0.0.1:9/v1" in found["judge"][1]


@pytest.mark.parametrize(
    ("overrides", "status", "message"),
    [
        (
            ["rollout.max_model_len=1500", "n_gpus_per_node=1"],
            "ok",
            "served by verl: 1 replicas on 1 GPUs of their own, 1500 tokens",
        ),
        (["model_path=/no/such/judge"], "FAIL", "cannot read the model config of '/no/such/judge'"),
        (
            ["rollout.tensor_model_parallel_size=2", "n_gpus_per_node=3"],
            "FAIL",
            "has 3 GPUs, no multiple of its rollout.tensor_model_parallel_size = 2; change reward.reward_model.n_gpus",
        ),
        ([], "FAIL", r"grading may take \d+ tokens, .* has 2048 positions; lower longrl.judge.max_context_chars"),
    ],
)
def test_served_judge(check, assets: Path, overrides: list[str], status: str, message: str):
    given = [f"model_path={assets / 'model'}", *overrides]
    found = check("longrl.reward.answer.by=reward_model", *(f"reward.reward_model.{override}" for override in given))
    assert found["judge"][0] == status
    assert re.search(message, found["judge"][1]), found["judge"][1]


def test_a_rule_needs_no_judge(check):
    assert "judge" not in check()
