"""The report of length generalisation from the folders of finished runs."""

import json
import math

import pytest
from support.fake_openai_server import failure

from recipe.longrl.evaluation.compare import CompareError
from recipe.longrl.evaluation.length import compare_lengths, find_training_length, slope_beyond

SIX = "sets.capitals.options.samples=6"


@pytest.fixture
def length(capsys):
    """Runs the command line: length(*arguments) -> (status, stdout, stderr)."""
    from recipe.longrl.evaluation.__main__ import app

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            app(["length", *map(str, arguments)])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def forget_the_long(body, n):
    """Right about documents of length 100, silent about longer ones."""
    return "" if len(body["messages"][0]["content"]) > 400 else 0.0


def test_runs_side_by_side(length, measure, server, tmp_path):
    measure(tmp_path / "after", SIX)
    server.behave = forget_the_long
    measure(tmp_path / "before", SIX, "model.revision=b")
    runs = [tmp_path / "before", tmp_path / "after"]
    status, printed, _ = length(*runs, "--training-length", "100", "--threshold", "80", "--out", tmp_path / "out")
    assert status == 0
    assert "200 (beyond training)" in printed
    assert "differs" not in printed
    report = json.loads((tmp_path / "out/length.json").read_text())
    before, after = (report["sets"]["capitals"]["runs"][name]["rules"]["published"] for name in ("before", "after"))
    assert (before["effective_length"], after["effective_length"]) == (100, 200)
    assert before["relative_to_shortest"] == {"100": 1.0, "200": 0.0}
    assert before["slope_beyond_training"]["mean"] == pytest.approx(-5 / 6)
    assert after["slope_beyond_training"]["mean"] == pytest.approx(0)
    picture = (tmp_path / "out/length-capitals-published.svg").read_text()
    assert picture.startswith("<svg")
    assert "(length-capitals-published.svg)" in (tmp_path / "out/length.md").read_text()


def test_records_that_differ_are_marked_and_other_benchmarks_refused(length, measure, tmp_path):
    measure(tmp_path / "a", SIX)
    measure(tmp_path / "b", "seed=7")
    printed = length(tmp_path / "a", tmp_path / "b")[1]
    assert "- **differs from a**: seed = 42, here 7" in printed
    assert "- **differs from a**: data_sha256 = " in printed
    record = tmp_path / "b/capitals/plan.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "benchmark": "ruler"}))
    status, _, problem = length(tmp_path / "a", tmp_path / "b")
    assert status == 2
    assert "benchmark = ruler, but a asked support.tiny_benchmark:BENCHMARK in set capitals. Fix: " in problem


def test_what_cannot_be_reported_is_said(length, measure, tmp_path):
    status, _, problem = length(tmp_path)
    assert (status, problem) == (2, f"{tmp_path}: no planned set there. Fix: the --out folder of a run\n")


def test_failures_are_in_the_denominator(measure, server, tmp_path):
    server.behave = lambda body, n: failure(400) if "Italy" in str(body) else 0.0
    measure(tmp_path / "a")
    figures = compare_lengths([tmp_path / "a"])["sets"]["capitals"]["runs"]["a"]
    assert figures["failed"] == 2
    assert figures["rules"]["published"]["points"]["100"]["mean"] == pytest.approx(2 / 3)
    assert figures["rules"]["published"]["slope_beyond_training"] is None


@pytest.mark.parametrize("place", ["", "export", "checkpoints/global_step_1"])
def test_the_training_length_is_that_of_the_models_run(tmp_path, place):
    (tmp_path / "config.yaml").write_text("data: {max_prompt_length: 4096}\n")
    assert find_training_length({"model": {"model": str(tmp_path / place)}}) == 4096
    assert find_training_length({"model": {"model": "Qwen/Qwen3-4B"}}) is None


def test_the_slope_is_that_of_a_line_and_its_error_is_clustered():
    line = [(2**k, 0.9 - 0.1 * k + noise, name) for k in range(3, 7) for noise, name in ((0.05, "a"), (-0.05, "b"))]
    found = slope_beyond([(4, 0.0, "a"), *line], 8)
    assert found["mean"] == pytest.approx(-0.1)
    # The noise is the same at all lengths, so it moves the line, not its slope.
    assert found["standard_error"] == pytest.approx(0, abs=1e-9)
    tilted = [(at, score + (0.1 if (name == "a") == (at > 20) else 0), name) for at, score, name in line]
    assert slope_beyond(tilted, 8)["standard_error"] > 0.01
    assert slope_beyond(line, 64) is None
    assert slope_beyond(line, None) is None
    assert not math.isnan(found["low"])


def test_a_run_without_scores_is_refused(evaluate, tmp_path):
    assert evaluate("plan", tmp_path / "a")[0] == 0
    with pytest.raises(CompareError, match=r"not scored\. Fix: "):
        compare_lengths([tmp_path / "a"])
