"""data_source -> scorer, and the messages when it is wrong."""

from pathlib import Path

import pytest
from verl_longrl.rewards import (
    Score,
    load_scorers,
    registry,
    resolve,
    score,
    scorer,
)

MINE = str(Path(__file__).parent / "my_scorers.py")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_names", dict(registry._names))
    monkeypatch.setattr(registry, "_patterns", dict(registry._patterns))


def test_exact_names_win_over_patterns_and_long_patterns_over_short():
    def make(value):
        return lambda *_: Score(value)

    scorer("t_exact", patterns=["t_*"])(make(1.0))
    scorer(patterns=["t_math_*"])(make(2.0))
    assert score("t_exact", "", "").value == 1
    assert score("t_other", "", "").value == 1
    assert score("t_math_5", "", "").value == 2
    assert resolve("longrlvr") is resolve("longrlvr_64k")


def test_unknown_data_source_names_the_nearest():
    with pytest.raises(
        LookupError, match=r"data_source = 'longrvlr': no scorer has this name; nearest registered: longrlvr,"
    ):
        score("longrvlr", "", "")


@pytest.mark.parametrize("name", [None, 1, 2.5, ["math"], ("math",), {"math"}, {}, b"math", "", "x" * 10**6, "math\0"])
def test_anything_but_a_known_name_is_a_lookup_error(name):
    with pytest.raises(LookupError, match=r"data_source = .*no scorer has this name") as raised:
        score(name, "", "")
    assert len(str(raised.value)) < 1000


def test_two_scorers_cannot_share_a_name():
    scorer("t_mine")(lambda *_: Score(1.0))

    def other(*_):
        return Score(2.0)

    with pytest.raises(ValueError, match=r"'t_mine': already scored by .*replace=True"):
        scorer("t_mine")(other)
    scorer("t_mine", replace=True)(other)
    assert score("t_mine", "", "").value == 2


def test_load_scorers_from_a_file_twice():
    load_scorers([MINE])
    load_scorers([MINE, "verl_longrl.rewards.tasks.longrlvr"])
    registry._names.setdefault("probe", None)  # loaded by another test before: then this registry lacks it


@pytest.mark.parametrize(
    ("source", "problem"), [("no.such.module", "cannot be imported"), ("no/such/file.py", "no such file")]
)
def test_load_scorers_says_what_is_missing(source, problem):
    with pytest.raises(ImportError, match=problem):
        load_scorers([source])


def test_a_scorer_that_raises_or_returns_nonsense_is_a_scorer_error():
    def broken(*_):
        raise KeyError("x")

    scorer("t_broken")(broken)
    scorer("t_none")(lambda *_: None)
    assert score("t_broken", "", "").reason == "KeyError: 'x'"
    assert score("t_none", "", "").status == "scorer_error"
    assert "returned NoneType, expected Score" in score("t_none", "", "").reason
