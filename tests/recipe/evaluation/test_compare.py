"""Two runs are compared question by question, and never without saying how they differ."""

import pytest
from support import tiny_benchmark

from recipe.longrl.evaluation.compare import CompareError, compare_runs
from recipe.longrl.evaluation.report.markdown import comparison_lines


def test_flips_and_differences_of_settings(measure, server, tmp_path):
    measure(tmp_path / "a")
    server.behave = lambda body, n: "Oslo" if "France" in str(body) else tiny_benchmark.know(body)
    measure(tmp_path / "b", "sets.capitals.sampling.temperature=0.5")
    result = compare_runs(tmp_path / "a", tmp_path / "b")["capitals"]
    assert result["settings_that_differ"] == {"sampling.temperature": [0.0, 0.5]}
    figure = result["rules"]["published"]
    assert (figure["a"], figure["difference"]) == (1.0, pytest.approx(-1 / 3))
    assert (figure["wins"], figure["ties"], figure["losses"]) == (0, 4, 2)
    assert [flip["row"] for flip in figure["flips"]] == ["France/100", "France/200"]
    assert figure["flips"][0]["parsed"] == ["Paris", "Oslo"]
    text = "\n".join(comparison_lines({"capitals": result}))
    assert "differs: sampling.temperature = 0.0 in a, 0.5 in b" in text


def test_only_common_questions_count(measure, tmp_path):
    measure(tmp_path / "a")
    measure(tmp_path / "b", "sets.capitals.options.samples=2", "sets.capitals.options.lengths=[100]")
    result = compare_runs(tmp_path / "a", tmp_path / "b")["capitals"]
    assert (result["only_in_a"], result["only_in_b"], result["rules"]["strict"]["n"]) == (4, 0, 2)
    assert "options.options.samples" in result["settings_that_differ"]
    assert "data_sha256" in result["settings_that_differ"]


def test_runs_without_a_common_question_are_refused(measure, tmp_path):
    measure(tmp_path / "a", "sets.capitals.options.lengths=[100]")
    measure(tmp_path / "b", "sets.capitals.options.lengths=[200]")
    with pytest.raises(CompareError, match="no question in common"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    with pytest.raises(CompareError, match="no planned set there"):
        compare_runs(tmp_path / "a", tmp_path)
