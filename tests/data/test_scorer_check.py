"""Each of the user's scorers is called once before training, and each problem is one line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.data.scorer_check import try_scorers
from verl_longrl.data.validate import app
from verl_longrl.rewards.isolation import fork_server
from verl_longrl.rewards.options import RewardOptions

HEAD = """
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
"""
GOOD = """
@scorer("{name}")
def good(response, ground_truth, extra_info, options):
    assert (ground_truth, extra_info["note"]) == (["a", "b"], "n")
    return Score(0.0)
"""


@pytest.fixture
def tried(tmp_path: Path):
    """tried(body, data source) -> the trial of a file of scorers, whose {name} becomes a name of this test, on rows of
    the data source (None: of that name)."""

    def run(body: str, source: str | None = None, timeout_s: float = 5.0):
        name = f"task_{tmp_path.name}"
        (tmp_path / "mine.py").write_text(HEAD + body.replace("{name}", name))
        rows = [Sample(source or name, [{"role": "user", "content": "q"}], ["a", "b"], index=0, payload={"note": "n"})]
        write_samples(tmp_path / "rows.parquet", rows)
        options = RewardOptions(scorers=(str(tmp_path / "mine.py"),), timeout_s=timeout_s)
        return name, try_scorers(options, [tmp_path / "rows.parquet"])

    return run


def test_a_good_scorer_gets_its_rows_ground_truth(tried):
    name, trial = tried(GOOD)
    assert (trial.tried, trial.unused, trial.problems) == ([name], [], [])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def f(response, ground_truth, extra_info): return Score(0.0)",
            "scorer_error, TypeError: f() takes 3 positional",
        ),
        ("def f(response, ground_truth, extra_info, options): return 0.5", "returned float, expected Score"),
        ("async def f(response, ground_truth, extra_info, options): return Score(0.0)", "returned coroutine"),
        ("def f(response, ground_truth, extra_info, options): return Score(len(response.split()[0]))", "IndexError"),
        ("def f(response, ground_truth, extra_info, options): return Score(float('nan'))", "is not finite"),
        ("def f(*_):\n    while True: pass", "timeout, the scorer took longer than timeout_s = 0.5 s"),
        ("def f(*_):\n    import os; os._exit(3)", "the scorer's process died"),
    ],
)
def test_failures_in_training_are_found_before(tried, body: str, message: str):
    name, trial = tried(f'@scorer("{{name}}")\n{body}\n', timeout_s=0.5)
    (problem,) = trial.problems
    assert f"the scorer of {name!r} (" in problem
    assert "mine.py:4)" in problem
    assert message in problem
    assert problem.endswith("expected (response, ground_truth, extra_info, options) -> Score")


def test_a_scorer_without_rows_is_a_warning(tried):
    name, trial = tried(GOOD, source="longrlvr")
    assert (trial.tried, trial.unused, trial.problems) == ([], [name], [])


def test_a_scorer_without_rows_and_with_a_wrong_signature(tried):
    name, trial = tried('@scorer("{name}")\ndef f(response): ...\n', source="longrlvr")
    assert trial.unused == [name]
    assert "too many positional arguments; expected (response, ground_truth" in trial.problems[0]


def test_a_file_without_a_scorer(tried):
    assert "no @scorer(...) in it, so it scores nothing" in tried("x = 1\n")[1].problems[0]


def test_a_pattern_and_a_built_in_name(tried):
    body = GOOD.replace('"{name}"', 'patterns=("{name}*",)') + GOOD.replace('"{name}"', '"{name}_x"')
    name, trial = tried(body)
    assert trial.tried == [name]
    assert trial.unused == [f"{name}_x"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax (mine.py, line 4)"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)\n", "they died"),
        ("import os; os._exit(0)\n", "they died"),
    ],
)
def test_a_file_that_does_not_load(tried, body: str, message: str):
    with pytest.raises(ImportError) as error:
        tried(body)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_never_finishes_loading(tried, monkeypatch):
    monkeypatch.setattr(fork_server, "_START_S", 3.0)
    with pytest.raises(ImportError, match=r"importing .*mine\.py took longer than 3 s"):
        tried("while True: pass\n")


@pytest.mark.parametrize("body", [None, "def f(:\n"])
def test_the_validator_reports_a_load_error_in_one_line(tmp_path: Path, body: str | None):
    write_samples(tmp_path / "rows.parquet", [Sample("longrlvr", [{"role": "user", "content": "q"}], "a", index=0)])
    if body is not None:
        (tmp_path / "mine.py").write_text(body)
    done = CliRunner().invoke(app, ["--scorers", str(tmp_path / "mine.py"), str(tmp_path / "rows.parquet")])
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert ("SyntaxError" if body else "no such file") in line


def test_the_validator_tries_scorers(tmp_path: Path):
    name = f"task_{tmp_path.name}"
    (tmp_path / "mine.py").write_text(HEAD + f'@scorer("{name}")\ndef f(response): return 1\n')
    write_samples(tmp_path / "rows.parquet", [Sample(name, [{"role": "user", "content": "q"}], "a", index=0)])
    done = CliRunner().invoke(app, ["--scorers", str(tmp_path / "mine.py"), str(tmp_path / "rows.parquet")])
    assert done.exit_code == 1
    assert "takes 1 positional argument but 4 were given" in done.output
