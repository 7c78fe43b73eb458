"""data_source -> scorer, options from a configuration, and what a user reads when either is wrong."""

import pickle
from pathlib import Path

import pytest
from verl_longrl.rewards import (
    AnswerOptions,
    JudgeOptions,
    RewardOptions,
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
    with pytest.raises(LookupError, match=r"no scorer for data_source 'longrvlr'; nearest registered: longrlvr,"):
        score("longrvlr", "", "")


def test_two_scorers_cannot_share_a_name():
    scorer("t_mine")(lambda *_: Score(1.0))

    def other(*_):
        return Score(2.0)

    with pytest.raises(ValueError, match=r"'t_mine' is already scored by .*replace=True"):
        scorer("t_mine")(other)
    scorer("t_mine", replace=True)(other)
    assert score("t_mine", "", "").value == 2


def test_load_scorers_from_a_file_twice():
    load_scorers([MINE])
    load_scorers([MINE, "verl_longrl.rewards.tasks.longrlvr"])
    registry._names.setdefault("probe", None)  # loaded by another test before: then this registry lacks it


@pytest.mark.parametrize(("source", "problem"), [("no.such.module", "cannot import"), ("no/such/file.py", "no file")])
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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"etta": 0.1}, r"unknown option etta = 0.1; the nearest valid one is eta "),
        (
            {"answer": {"mod": "f1"}},
            r"unknown option answer.mod = 'f1'; the nearest valid one is answer.mode ",
        ),
        ({"verdict": 1.0}, r"unknown option verdict"),
        ({"method": "rlvr"}, r"method = 'rlvr' is unknown; use one of longrlvr, outcome_only"),
        ({"eta": 1.5}, r"eta = 1.5 is out of range; expected a number at least 0 and at most 1"),
        ({"beta": 0}, r"beta = 0 is out of range; expected a number above 0"),
        ({"eta": "0.1"}, r"eta = '0.1'; expected a number"),
        ({"timeout_s": 0}, r"timeout_s = 0 is out of range"),
        ({"workers": 0}, r"workers = 0 is out of range"),
        ({"workers": 2.5}, r"workers = 2.5; expected a whole number"),
        ({"workers": 0}, r"workers = 0 is out of range; expected a whole number at least 1"),
        ({"paper_exact": "off"}, r"paper_exact = 'off'; expected true or false"),
        ({"answer": {"skip_exact": 1}}, r"answer.skip_exact = 1; expected true or false"),
        ({"answer": "judge"}, r"answer = 'judge' is one value, expected a group .*; write answer.by=judge$"),
        ({"answer": "exact"}, r"write answer.mode=exact$"),
        ({"answer": 3}, r"set one of them, such as answer.by=\.\.\.$"),
        ({"max_failure_share": 2}, r"max_failure_share = 2 is out of range"),
        ({"scorers": {"a.py": 1}}, r"scorers = .* is one value; expected a list"),
        (
            {"answer": {"by": "model"}},
            r"answer.by = 'model' is unknown; use one of rule, judge, reward_model",
        ),
        ({"answer": {"mode": "fuzzy"}}, r"answer.mode = 'fuzzy' is unknown"),
        ({"answer": {"f1_threshold": 0}}, r"answer.f1_threshold = 0 is out of range"),
        ({"answer": {"max_length_ratio": 0.5}}, r"answer.max_length_ratio = 0.5 is out of range"),
    ],
)
def test_wrong_options_are_refused_in_words(values, message):
    with pytest.raises(ValueError, match=message):
        RewardOptions.from_dict(values)


def test_wrong_judge_options():
    with pytest.raises(ValueError, match=r"judge.endpoints has 'host:8000'; expected a base URL such as http://"):
        JudgeOptions(endpoints=("host:8000",))
    with pytest.raises(ValueError, match=r"judge.timeout_s = 0 is out of range"):
        JudgeOptions(timeout_s=0)
    for name in ("concurrency", "attempts", "max_tokens", "cache_size", "max_candidate_chars", "max_context_chars"):
        with pytest.raises(ValueError, match=rf"judge.{name} = 2.5 is out of range; expected a whole number"):
            JudgeOptions(**{name: 2.5})
    assert JudgeOptions(endpoints="http://h/v1").endpoints == ("http://h/v1",)  # type: ignore[arg-type]


def test_a_whole_configuration_names_options_in_full():
    from verl_longrl.config import LongRLConfig

    with pytest.raises(ValueError, match=r"write longrl.reward.answer.by=judge$"):
        LongRLConfig.from_dict({"output_dir": "o", "reward": {"answer": "judge"}})
    with pytest.raises(ValueError, match=r"nearest valid one is longrl.reward.answer.mode "):
        LongRLConfig.from_dict({"output_dir": "o", "reward": {"answer": {"mod": "f1"}}})


def test_options_from_a_config():
    options = RewardOptions.from_dict({"beta": 1, "answer": {"mode": "exact"}, "scorers": ["a.py"]})
    assert options == RewardOptions(beta=1, answer=AnswerOptions(mode="exact"), scorers=("a.py",))
    assert RewardOptions.from_dict(None) == RewardOptions()
    assert pickle.loads(pickle.dumps(options)) == options
