"""Suites of longrl.evaluate are planned before anything starts, as the trainer will plan them."""

import re

import pytest

from recipe.longrl.preflight.suites import check_suites

OURS = "longrl.evaluate.sets.ours"


@pytest.fixture
def suites(configure, assets):
    """suites(overrides) -> name -> (status, detail) of the suite `ours` on the held-out file."""

    def run(*overrides: str):
        from verl_longrl.config import LongRLConfig

        from recipe.longrl import settings

        file = [f"{OURS}.benchmark=own_parquet", f"{OURS}.options.path={assets / 'val.parquet'}", f"{OURS}.slice=all"]
        config = configure("longrl.evaluate.suites=[ours]", *file, *overrides)
        longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
        return {check.name: (check.status, check.detail) for check in check_suites(config, longrl, dry_run=True)}

    return run


def test_a_suite_says_what_it_will_ask(suites):
    status, detail = suites("longrl.evaluate.every=15")["evaluate ours"]
    assert status == "ok"
    assert re.match(r"8 rows of slice all every 15 steps; prompts of [\d,]+ tokens, the longest with its ", detail)


@pytest.mark.parametrize(
    ("overrides", "name", "problem"),
    [
        (["longrl.evaluate.suites=[our]"], "evaluate", r"longrl.evaluate.suites = our: neither .* Fix: ours"),
        ([f"{OURS}.limits=3"], "evaluate", r"sets.ours.limits"),
        ([f"{OURS}.options.path=none.parquet"], "evaluate ours", r"none.parquet.* Fix: "),
        (
            [f"{OURS}.max_tokens=5000"],
            "evaluate ours",
            r"ours: row val/0: prompt \+ answer = \d+ \+ 5000 tokens, window 1088; 8 such rows .*longrl.evaluate.sets",
        ),
    ],
)
def test_a_suite_that_cannot_run_fails_the_preflight(suites, overrides, name, problem):
    status, detail = suites(*overrides)[name]
    assert status == "FAIL"
    assert re.search(problem, detail), detail


def test_without_suites_there_is_no_line(suites):
    assert suites("longrl.evaluate.suites=[]") == {}


def test_paths_are_those_of_the_folder_where_the_command_is_given(configure, assets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours.yaml").write_text("sets: {ours: {benchmark: own_parquet, options: {path: a.parquet}}}\n")
    config = configure("longrl.evaluate.profile=ours.yaml", "longrl.evaluate.sets.mine.options.path=b.parquet")
    evaluate = config.longrl.evaluate
    assert evaluate.profile == str(tmp_path / "ours.yaml")
    assert evaluate.sets.ours.options.path == str(tmp_path / "a.parquet")
    assert evaluate.sets.mine.options.path == str(tmp_path / "b.parquet")
