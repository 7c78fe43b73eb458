"""Options: values from a configuration, and one line for each one that is wrong."""

import pickle
from dataclasses import asdict, field, replace
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass
from verl_longrl.config import LongRLConfig
from verl_longrl.data.sampler import MixOptions
from verl_longrl.options import INTERNAL, OneOrMore, OptionError, Options, Share, describe, public_fields
from verl_longrl.rewards.options import AnswerOptions, JudgeOptions, RewardOptions


def no_thirteen(value: int) -> int:
    if value == 13:
        raise ValueError("thirteen is unlucky. Fix: use 14")
    return value


@dataclass(frozen=True)
class Inner(Options):
    size: Annotated[PositiveInt, AfterValidator(no_thirteen)] = 3
    name: str = ""

    def __post_init__(self):
        if self.name == "taken":
            raise OptionError("name", self.name, "this name is in use", "choose another one")
        if self.name == "odd":
            raise ValueError("odd names are not allowed. Fix: change it")


@dataclass(frozen=True)
class Outer(Options):
    needed: str
    inner: Inner = field(default_factory=Inner)
    inners: tuple[Inner, ...] = ()
    sizes: tuple[PositiveInt, ...] = ()
    files: OneOrMore = ()
    weights: dict[str, Share] = field(default_factory=dict)
    anything: dict[str, Any] | None = None
    named: dict[str, Inner] = field(default_factory=dict)
    hidden: Annotated[Share, INTERNAL] | None = None


def outer(**values: Any) -> Outer:
    return Outer.from_dict({"needed": "x", **values}, "top.")


def test_values_of_a_configuration():
    built = outer(
        inner=None,
        inners=[{"size": 1}],
        sizes=[1, 2],
        files="one",
        weights={1: 1},
        anything={"a": [1]},
        named={"b": {}},
    )
    assert built == Outer("x", Inner(), (Inner(1),), (1, 2), ("one",), {"1": 1.0}, {"a": [1]}, {"b": Inner()})
    assert outer(files=["one", "two"]).files == ("one", "two")
    assert outer().inner == Inner()
    assert outer(**{key: value for key, value in asdict(outer()).items() if key not in ("needed", "hidden")}) == outer()


def test_defaults_are_what_from_dict_takes():
    defaults = Outer.defaults()
    assert defaults == {
        **{"inner": {"size": 3, "name": ""}, "inners": [], "sizes": [], "files": []},
        **{"weights": {}, "anything": None, "named": {}},
    }
    assert outer(**defaults) == outer()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"inner": {"size": 0}},
            "top.inner.size = 0: expected a whole number of at least 1. Fix: correct it, or leave ",
        ),
        ({"inner": {"size": True}}, "top.inner.size = true: expected a whole number"),
        ({"inner": {"size": 2.0}}, "top.inner.size = 2.0: expected a whole number"),
        ({"inner": {"size": "2"}}, "top.inner.size = '2': expected a whole number"),
        ({"inner": {"size": None}}, "top.inner.size = null: expected a whole number of at least 1. Fix: "),
        (
            {"inner": {"name": 2}},
            "top.inner.name = 2: expected a string. Fix: correct it, or leave it out (default: '')",
        ),
        ({"inner": {"name": "taken"}}, "top.inner.name = 'taken': this name is in use. Fix: choose another one"),
        ({"inner": {"name": "odd"}}, "top.inner: odd names are not allowed. Fix: change it"),
        ({"inner": {"size": 13}}, "top.inner.size = 13: thirteen is unlucky. Fix: use 14"),
        ({"inners": [{}, {"name": "taken"}]}, "top.inners[1].name = 'taken': this name is in use. Fix: "),
        ({"named": {"a": {"name": "taken"}}}, "top.named.a.name = 'taken': this name is in use. Fix: "),
        (
            {"inners": [{}, {"sizes": 2}]},
            "top.inners[1].sizes = 2: unknown key. Fix: use a valid key; the nearest is top.",
        ),
        (
            {"inner": 3},
            "top.inner = 3: expected a group of keys (size, name). Fix: set one of them, such as top.inner.s",
        ),
        ({"inner": [3]}, "top.inner = [3]: expected a group of keys (size, name). Fix: "),
        ({"inners": {}}, "top.inners = {}: expected a list, each item a group of keys (size, name). Fix: "),
        ({"files": 3}, "top.files = 3: expected a list of strings. Fix: write top.files=[3]"),
        ({"files": [3]}, "top.files[0] = 3: expected a string. Fix: correct it"),
        ({"sizes": [1, 0]}, "top.sizes[1] = 0: expected a whole number of at least 1. Fix: correct it"),
        (
            {"sizes": "1"},
            "top.sizes = '1': expected a list, each item a whole number of at least 1. Fix: write top.sizes=",
        ),
        ({"weights": {"a": 2}}, "top.weights.a = 2: expected a number of at least 0 and at most 1. Fix: correct it"),
        ({"weights": {"a": float("nan")}}, "top.weights.a = nan: expected a number of at least 0 and at most 1. Fix: "),
        (
            {"weights": 3},
            "top.weights = 3: expected keys and values: {key: value}, each value a number of at least 0 and ",
        ),
        ({"hidden": 0.5}, "top.hidden = 0.5: unknown key. Fix: "),
        (
            {"need": 0.5},
            "top.need = 0.5: unknown key. Fix: use a valid key; the nearest is top.needed (valid: anything, ",
        ),
        ({"needed": "y" * 500}, ""),
    ],
)
def test_what_is_wrong_is_one_line(values, line: str):
    if not line:
        assert outer(**values)
        return
    with pytest.raises(ValueError, match=r": .*\. Fix: .") as refused:
        outer(**values)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_a_value_instead_of_a_whole_configuration():
    with pytest.raises(ValueError, match=r"^top = 3: expected a group of keys \(needed, .* Fix: set one of them"):
        Outer.from_dict(3, "top.")  # type: ignore[arg-type]


def test_each_problem_has_its_line():
    with pytest.raises(
        ValueError, match=r"^needed is missing: expected a string\. Fix: set it\ninner.size = 0: "
    ) as refused:
        Outer.from_dict({"inner": {"size": 0}, "sizes": ["x" * 1000]})
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert all(len(line) < 300 for line in lines)


def test_a_secret_is_not_quoted(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-of-mine")
    with pytest.raises(ValueError, match="secret HF_TOKEN") as refused:
        outer(inner={"size": "canary-of-mine"})
    assert "canary" not in str(refused.value)
    with pytest.raises(ValidationError) as refused:
        JudgeOptions(endpoints=("https://me:canary@host/v1",))
    assert "canary" not in str(refused.value)


def test_what_code_sets_is_checked_too():
    assert replace(outer(), hidden=0.5).hidden == 0.5
    with pytest.raises(ValueError, match="hidden"):
        replace(outer(), hidden=2.0)
    with pytest.raises(ValueError, match="this name is in use"):
        Inner(name="taken")
    assert "hidden" not in public_fields(Outer)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Annotated[float, Gt(0), Lt(1)], "a number above 0 and below 1"),
        (Annotated[int, Le(5)], "a whole number of at most 5"),
        (Annotated[int, Ge(2)] | None, "a whole number of at least 2, or null"),
        (Literal["a", "b"] | None, "one of a, b, or null"),
        (bool, "true or false"),
        (tuple[str, ...], "a list of strings"),
        (dict[str, Any], "keys and values: {key: value}"),
        (Inner, "a group of keys (size, name)"),
    ],
)
def test_types_in_words(annotation, words: str):
    assert describe(annotation) == words


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"etta": 0.1},
            "longrl.reward.etta = 0.1: unknown key. Fix: use a valid key; the nearest is longrl.reward.eta (v",
        ),
        ({"verdict": 1.0}, "longrl.reward.verdict = 1.0: unknown key. Fix: "),
        (
            {"method": "rlvr"},
            "longrl.reward.method = 'rlvr': expected one of longrlvr, outcome_only, loongrl, golongrl. ",
        ),
        (
            {"eta": 1.5},
            "longrl.reward.eta = 1.5: expected a number of at least 0 and at most 1. Fix: correct it, or leav",
        ),
        ({"beta": 0}, "longrl.reward.beta = 0: expected a number above 0. Fix: "),
        ({"timeout_s": 0}, "longrl.reward.timeout_s = 0: expected a number above 0. Fix: "),
        ({"workers": 0}, "longrl.reward.workers = 0: expected a whole number of at least 1 and at most 256. Fix: "),
        (
            {"max_failure_share": 2},
            "longrl.reward.max_failure_share = 2: expected a number of at least 0 and at most 1. ",
        ),
        ({"scorers": {"a.py": 1}}, "longrl.reward.scorers = {'a.py': 1}: expected a list of strings. Fix: "),
        (
            {"answer": "exact"},
            "longrl.reward.answer = 'exact': expected a group of keys (by, mode, f1_threshold, max_leng",
        ),
        (
            {"answer": {"mod": "f1"}},
            "longrl.reward.answer.mod = 'f1': unknown key. Fix: use a valid key; the nearest is ",
        ),
        ({"answer": {"by": "model"}}, "longrl.reward.answer.by = 'model': expected one of rule, judge, reward_model. "),
        (
            {"answer": {"mode": "fuzzy"}},
            "longrl.reward.answer.mode = 'fuzzy': expected one of auto, exact, contain, two_",
        ),
        (
            {"answer": {"f1_threshold": 0}},
            "longrl.reward.answer.f1_threshold = 0: expected a number above 0 and at most",
        ),
        (
            {"answer": {"max_length_ratio": 0.5}},
            "longrl.reward.answer.max_length_ratio = 0.5: expected a number of at l",
        ),
    ],
)
def test_reward_options(values, line: str):
    with pytest.raises(ValueError, match=r"\. Fix: .") as refused:
        LongRLConfig.from_dict({"output_dir": "o", "reward": values})
    assert str(refused.value).startswith(line)


def test_a_group_that_is_set_to_one_of_its_values():
    for value, key in (("judge", "by"), ("exact", "mode")):
        with pytest.raises(ValueError, match=rf"Fix: write answer.{key}={value}$"):
            RewardOptions.from_dict({"answer": value})


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"endpoints": ["host:8000"]},
            "judge.endpoints = ['host:8000']: expected base URLs with a scheme. Fix: write http",
        ),
        ({"timeout_s": 0}, "judge.timeout_s = 0: expected a number above 0. Fix: "),
        *(
            ({name: 2.5}, f"judge.{name} = 2.5: expected a whole number of at least ")
            for name in (
                "concurrency",
                "attempts",
                "max_tokens",
                "cache_size",
                "max_candidate_chars",
                "max_context_chars",
            )
        ),
    ],
)
def test_judge_options(values, line: str):
    with pytest.raises(ValueError, match=r"\. Fix: .") as refused:
        JudgeOptions.from_dict(values, "judge.")
    assert str(refused.value).startswith(line)


def test_options_from_a_config():
    options = RewardOptions.from_dict({"beta": 1, "answer": {"mode": "exact"}, "scorers": ["a.py"]})
    assert options == RewardOptions(beta=1, answer=AnswerOptions(mode="exact"), scorers=("a.py",))
    assert RewardOptions.from_dict(None) == RewardOptions()
    assert pickle.loads(pickle.dumps(options)) == options
    assert hash(options) == hash(replace(options))
    assert MixOptions.from_dict({"phases": [{"prompts": 2}, {}]}).phases[0].prompts == 2


def test_rollouts_are_shown_where_they_are_logged():
    assert LongRLConfig.from_dict({"output_dir": "o", "samples_per_step": 4}).samples_per_step == 4
    with pytest.raises(ValueError, match=r"^longrl\.samples_per_step = 4: .* Fix: set longrl\.log_rollouts=true"):
        LongRLConfig.from_dict({"output_dir": "o", "samples_per_step": 4, "log_rollouts": False})
