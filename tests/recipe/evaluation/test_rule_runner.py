"""A rule that hangs, waits, ends its process or gives nonsense costs its own answer only, and is named."""

import json

import pytest
from support import bad_rules, tiny_benchmark
from verl_longrl.rewards.isolation import cpu_deadline

from recipe.longrl.evaluation import rule_runner
from recipe.longrl.evaluation.rule_runner import RuleRunner, scores_of

REASONS = {
    "spin": ("France", "took too long (limit 0.5 s of CPU time)"),
    "wait": ("Italy", "took too long (limit 0.5 s of CPU time)"),
    "devour": ("Spain", "needed too much memory (MemoryError)"),
    "end": ("Spain", "the helper process was killed"),
    "fail": ("Italy", "KeyError: 'gold'"),
    "percent": ("France", "score = 100.0: expected a number from 0 to 1"),
    "nothing": ("France", "AttributeError: 'NoneType' object has no attribute 'score'"),
}


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch):
    # The modules of the rules are imported before, in a time that is no rule's.
    RuleRunner("support.tiny_benchmark:BENCHMARK").apply([("Paris", next(tiny_benchmark.rows()))])
    monkeypatch.setattr(rule_runner, "RULE_S", 0.5)
    monkeypatch.setattr(cpu_deadline, "WAIT_S", 0.5)


@pytest.fixture
def answers():
    return [(tiny_benchmark.CAPITALS[row.cluster], row) for row in tiny_benchmark.rows(lengths=[100])]


@pytest.mark.parametrize("rule", REASONS)
def test_a_rule_that_misbehaves_at_one_answer_is_named_there_and_right_elsewhere(answers, rule, monkeypatch):
    country, reason = REASONS[rule]
    monkeypatch.setattr(RuleRunner, "_rules", lambda self: ["published", rule])
    for (_, row), applied in zip(answers, RuleRunner("support.bad_rules:BENCHMARK").apply(answers), strict=True):
        outcomes, failed = scores_of(applied)
        assert outcomes["published"].score == 1
        assert outcomes[rule].score == float(row.cluster != country)
        assert (rule in failed) == (row.cluster == country)
        if row.cluster == country:
            assert reason in failed[rule]


def test_a_rule_that_always_hangs_is_given_up_and_the_others_count(answers):
    runner = RuleRunner("support.bad_rules:HOPELESS")
    applied = runner.apply(answers * 2)
    assert [each["published"].score for each in applied] == [1.0] * 6
    assert ["took too long" in each["spin"] for each in applied] == [True] * 3 + [False] * 3
    assert applied[-1]["spin"] == "not applied any more, after it was ended at 3 answers"
    assert [each["published"].score for each in runner.apply(answers)] == [1.0] * 3


def test_failures_of_a_rule_are_in_the_tables_and_withhold_its_headline(measure, tmp_path):
    override = "sets.capitals.benchmark=support.bad_rules:BENCHMARK"
    tables = measure(tmp_path, override, "sets.capitals.rule=percent")
    reason = "row France/100: score = 100.0: expected a number from 0 to 1"
    assert tables["headline"] is None
    assert tables["no_headline_because"] == f"rule percent failed at 2 answers, the first at {reason}"
    assert tables["rule_failed"]["percent"] == {"answers": 2, "first": reason}
    assert {*tables["rule_failed"]} == {*bad_rules.RULES} - {"published"}
    assert (tables["failed"], tables["rules"]["published"]["mean"]) == (0, 1.0)
    lines = [json.loads(line) for line in (tmp_path / "capitals/scores.jsonl").open()]
    assert {line["state"] for line in lines} == {"scored"}


def test_a_benchmark_that_the_process_cannot_import_fails_its_rules(answers, monkeypatch):
    monkeypatch.setattr(RuleRunner, "_rules", lambda self: ["published"])
    runner = RuleRunner("support.tiny_benchmark:BENCHMARK")
    runner.benchmark = "support.bad_rules:HOPELESS"
    monkeypatch.setattr(cpu_deadline, "run", _refuse)
    assert runner.apply(answers[:1])[0]["published"] == "BenchmarkError: nowhere"


def _refuse(*_, seconds):
    raise RuntimeError("BenchmarkError: nowhere")
