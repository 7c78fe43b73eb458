"""Profiles and overrides, and the problems that they can have."""

import pytest

from recipe.longrl.evaluation.catalog import check_options, find_benchmark
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.judge.ask import choose_judges
from recipe.longrl.evaluation.profiles import read_profile, shipped_profiles
from recipe.longrl.evaluation.settings import read_settings


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles(name):
    profile = read_profile(name)
    assert profile.name == name
    assert profile.source
    assert profile.sets


def test_profiles_have_what_the_papers_say():
    golongrl = read_profile("golongrl")
    averaged = [golongrl.sets[name] for name in golongrl.average]
    assert len(averaged) == 6
    assert golongrl.sets["gpqa_diamond"].repeats == 4
    assert golongrl.sets["aime25"].repeats == 32
    assert golongrl.sets["aime25"].sampling.extra == {"repetition_penalty": 1.05}
    assert {(s.sampling.temperature, s.sampling.top_p, s.max_tokens) for s in golongrl.sets.values()} == {
        (0.7, 0.95, 51200)
    }
    assert read_profile("longrlvr").sets["ruler_qa"].options["lengths"] == [32768, 65536, 131072]
    assert read_profile("loongrl").sets["longbench_v2"].repeats == 5


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_use_what_their_benchmarks_have(name):
    for options in read_profile(name).sets.values():
        benchmark = find_benchmark(options.benchmark)
        check_options(benchmark, options.options)
        assert options.rule in {"", *benchmark.rules}


def test_overrides_go_to_their_groups():
    overrides = ["sets.ruler.limit=7", "seed=3", "client.concurrency=2", "model.template={enable_thinking: false}"]
    settings = read_settings("official", ["ruler", "aa_lcr"], overrides, {"model": "x", "server": None})
    assert list(settings.sets) == ["ruler", "aa_lcr"]
    assert (settings.sets["ruler"].limit, settings.profile.seed, settings.client.concurrency) == (7, 3, 2)
    assert (settings.model.model, settings.model.template) == ("x", {"enable_thinking": False})


@pytest.mark.parametrize(
    ("profile", "sets", "override", "problem"),
    [
        ("offical", [], "seed=1", r"--profile = offical: not found. Fix: one of golongrl, longrlvr, loongrl, official"),
        ("official", ["rulr"], "seed=1", r"--sets = rulr: profile official has no such set. Fix: ruler"),
        ("official", [], "sets.ruler.repeats=0", r"sets.ruler.repeats = 0: expected a whole number of at least 1"),
        ("official", [], "sets.ruler.over_window=cut", r"over_window = 'cut': expected one of fail, skip, middle"),
        ("official", [], "sets.ruler.limits=1", r"sets.ruler.limits = 1: .*limit"),
        ("official", [], "client.concurency=1", r"client.concurency = 1: .*client.concurrency"),
        ("official", [], "model.window=none", r"model.window = 'none': expected a whole number"),
        ("official", [], "limit", r"limit: not an override. Fix: KEY=VALUE"),
    ],
)
def test_problems_name_the_key_and_the_fix(profile, sets, override, problem):
    with pytest.raises(EvaluationError, match=problem):
        read_settings(profile, sets, [override], {})


def test_an_average_of_unknown_sets_is_refused(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("sets: {a: {benchmark: ruler}}\naverage: [a, b]\n")
    with pytest.raises(EvaluationError, match=r"own.yaml: average = \['b'\]: not sets of the profile. Fix: a"):
        read_profile(str(file))


ONE = "sets: {a: {benchmark: frames}}\njudge: {model: x, revision: r}\n"
TWO = "sets: {a: {benchmark: frames, judge: [{model: x}, {model: y}]}}\n"


@pytest.mark.parametrize(
    ("text", "overrides", "judges"),
    [
        (ONE, [], [("x", "r")]),
        (ONE, ["judge.model=z"], [("z", "r")]),
        (ONE, ["judge=[{model: a}, {model: b}]"], [("a", ""), ("b", "")]),
        (ONE, ["sets.a.judge.model=own"], [("own", "")]),
        (TWO, [], [("x", ""), ("y", "")]),
        (TWO, ["sets.a.judge=[{model: z}]"], [("z", "")]),
        (TWO, ["judge.model=z"], [("x", ""), ("y", "")]),
    ],
)
def test_one_judge_or_a_list_of_a_profile_or_a_set(tmp_path, text, overrides, judges):
    (tmp_path / "mine.yaml").write_text(text)
    profile = read_profile(str(tmp_path / "mine.yaml"), overrides)
    chosen = choose_judges(profile, "a", profile.sets["a"])
    assert [(judge.model, judge.revision) for judge in chosen] == judges


def test_a_key_of_several_judges_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text(TWO)
    with pytest.raises(EvaluationError, match=r"sets.a.judge: the profile has a list of judges. Fix: sets.a.judge=\["):
        read_profile(str(tmp_path / "mine.yaml"), ["sets.a.judge.model=z"])
