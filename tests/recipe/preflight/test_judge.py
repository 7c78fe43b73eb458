"""The judge: endpoints that answer, or a model that verl can serve."""

import re
from pathlib import Path

import pytest
from verl_longrl.config import LongRLConfig
from verl_longrl.rewards.judge.client import JudgeClient
from verl_longrl.rewards.options import JudgeOptions

from recipe.longrl.preflight import judge

pytestmark = pytest.mark.engine


def test_unreachable_judge_is_found_with_its_address(check):
    found = check("longrl.reward.answer.by=judge", "longrl.judge.endpoints=[http://127.0.0.1:9/v1]")
    assert found["judge"][0] == "FAIL"
    assert "http://127.0.0.1:9/v1" in found["judge"][1]


def test_a_judge_that_is_away_is_waited_for_by_a_run_that_had_it(check, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    judge = ["longrl.reward.answer.by=judge", "longrl.judge.endpoints=[http://127.0.0.1:9/v1]"]
    status, message = check(*judge, f"longrl.output_dir={tmp_path}")["judge"]
    assert status == "warn"
    assert "the run starts and waits for it, up to 30 min" in message
    assert check(*judge, f"longrl.output_dir={tmp_path}", "longrl.judge.patience_minutes=0")["judge"][0] == "FAIL"


@pytest.mark.parametrize(
    ("overrides", "status", "message"),
    [
        (
            ["rollout.max_model_len=1500", "n_gpus_per_node=1"],
            "ok",
            "served by verl: 1 replicas on 1 GPUs of the judge, 1500 tokens",
        ),
        (["model_path=/no/such/judge"], "FAIL", "cannot read the model config of '/no/such/judge'"),
        (
            ["rollout.tensor_model_parallel_size=2", "n_gpus_per_node=3"],
            "FAIL",
            "3 GPUs must be a multiple of rollout.tensor_model_parallel_size = 2. Fix: change reward.reward",
        ),
        ([], "FAIL", r"has 2048 positions, but grading may take \d+ tokens. Fix: lower longrl.judge.max_context_chars"),
    ],
)
def test_served_judge(check, assets: Path, overrides: list[str], status: str, message: str):
    given = [f"model_path={assets / 'model'}", *overrides]
    found = check("longrl.reward.answer.by=reward_model", *(f"reward.reward_model.{override}" for override in given))
    assert found["judge"][0] == status
    assert re.search(message, found["judge"][1]), found["judge"][1]


@pytest.mark.parametrize(("address", "status"), [("10.1.2.3", "ok"), ("8.8.8.8", "warn"), ("127.0.0.1", "ok")])
def test_a_key_in_the_clear_is_said(monkeypatch, address: str, status: str):
    async def answers(self: JudgeClient) -> str:
        return "a-model"

    monkeypatch.setattr(JudgeClient, "check", answers)
    monkeypatch.setattr("socket.getaddrinfo", lambda host, port: [(2, 1, 6, "", (address, 0))])
    longrl = LongRLConfig(output_dir="x", judge=JudgeOptions(endpoints=("http://judge.example/v1",)))
    assert judge.check_endpoints(longrl).status == "ok"
    monkeypatch.setenv("LONGRL_JUDGE_API_KEY", "a-key-of-mine")
    assert judge.check_endpoints(longrl).status == status


def test_a_rule_needs_no_judge(check):
    assert "judge" not in check()
