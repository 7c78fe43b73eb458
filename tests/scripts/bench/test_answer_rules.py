"""The cases for rules of short answers are what they say, and rules are counted as they decide."""

from collections import defaultdict
from functools import cache

import pytest
from answer_rules import measure, our_rules, table_of_failures
from answer_rules_cases import KINDS, are_alternatives, load_golds, load_yaml, make_cases
from verl_longrl.rewards.matching.answer_match import equals_gold


@cache
def small_sample():
    return make_cases(pairs_per_type=2, seed=1)


def texts_by_answer(kind):
    texts = defaultdict(set)
    for case in small_sample():
        if case.kind == kind:
            texts[case.golds[0], case.question].add(case.text)
    return texts


def test_there_are_enough_answers_and_templates():
    assert len(load_golds()) >= 150
    templates = load_yaml("templates")
    sizes = {kind: sum(map(len, templates[kind]["en"].values())) for kind in KINDS}
    assert sizes["hedging"] >= 20
    assert sizes["altering"] >= 30
    assert sizes["paraphrases"] >= 30


def test_every_template_gives_a_text():
    templates = load_yaml("templates")
    used = {(case.kind, case.template) for case in small_sample()}
    for kind in KINDS:
        for by_types in templates[kind].values():
            for texts in by_types.values():
                assert not (unused := [text for text in texts if (kind, text) not in used]), (
                    f"{kind}: no gold answer has the fields of {unused}. Fix: give one of this type the fields"
                )


def test_every_type_that_a_template_names_exists():
    templates, types = load_yaml("templates"), set(load_yaml("golds"))
    names = {
        name for kind in KINDS for by_types in templates[kind].values() for key in by_types for name in key.split()
    }
    names |= {name for group in templates["groups"].values() for name in group.split()}
    assert names <= types | set(templates["groups"]) | {"any"}


@pytest.mark.parametrize("mode", ["contain", "two_way"])
def test_our_rules_keep_their_bars(mode):
    """The bars of the whole measurement (docs/results/answer_rules.md), on a sample of it."""
    rule = our_rules()[f"LongRL, `{mode}`"]
    shares = {}
    for kind in KINDS:
        cases = [case for case in small_sample() if case.kind == kind][::11]
        shares[kind] = sum(case.is_paid(rule) for case in cases) / len(cases)
    assert shares["hedging"] == 0
    assert shares["altering"] <= 0.005
    assert shares["paraphrases"] >= 0.9


def test_the_same_seed_gives_the_same_cases():
    assert make_cases(pairs_per_type=1, seed=3) == make_cases(pairs_per_type=1, seed=3)
    assert make_cases(pairs_per_type=1, seed=3) != make_cases(pairs_per_type=1, seed=4)


def test_a_hedging_text_names_two_answers_that_differ():
    for case in small_sample():
        if case.kind == "hedging":
            first, second = case.golds
            assert first in case.text
            assert second in case.text
            assert are_alternatives(first, second)


@pytest.mark.parametrize(
    ("first", "second", "alternatives"),
    [
        ("Paris", "London", True),
        ("Paris", "paris", False),
        ("New York", "New York City", False),
        ("5", "15", True),
        ("3", "-3", True),
        ("C", "C++", True),
        ("北京", "北京大学", False),
    ],
)
def test_an_answer_inside_the_other_is_no_alternative(first, second, alternatives):
    assert are_alternatives(first, second) == are_alternatives(second, first) == alternatives


def test_no_text_is_both_right_and_wrong():
    wrong = texts_by_answer("altering")
    for key, right in texts_by_answer("paraphrases").items():
        answer, _ = key
        assert not (right | {answer}) & wrong[key], key


def test_shares_are_of_texts_paid_for_all_their_answers():
    cases = small_sample()
    rules = {"all": lambda *_: True, "none": lambda *_: False, "first": lambda text, gold, _: text.startswith(gold)}
    measurement = measure(cases, rules)
    for kind in KINDS:
        total = sum(case.kind == kind for case in cases)
        assert measurement.count("all", kind=kind) == (total, total)
        assert measurement.count("none", kind=kind) == (0, total)
    assert measurement.count("first", kind="hedging", template="$A, $B")[0] == 0
    assert {case.kind for case in measurement.failures("none")} == {"paraphrases"}
    assert {case.kind for case in measurement.failures("all")} == {"hedging", "altering"}
    assert len(table_of_failures(measurement, ["none"])) > 2


def test_equal_tokens_are_paid_by_every_rule():
    rules = our_rules()
    for gold in load_golds():
        if equals_gold(f"{gold.answer}.", gold.answer):
            assert all(rule(gold.answer, gold.answer, gold.fields["question"]) for rule in rules.values()), gold
