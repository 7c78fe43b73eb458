"""Other projects' rules decide as published."""

import pytest
from answer_rules_published import longbench_f1, published_rules

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("text", "gold", "f1"),
    [("The capital is Paris.", "Paris", 0.5), ("paris", "Paris", 1.0), ("Rome", "Paris", 0.0), ("北京。", "北京", 1.0)],
)
def test_f1_is_longbenchs(text, gold, f1):
    assert longbench_f1(text, gold) == pytest.approx(f1)


def test_verdicts_of_the_published_rules():
    verdicts = {name: rule("It was Paris, not Rome", "Paris", "") for name, rule in published_rules().items()}
    assert verdicts == {
        "SQuAD's exact match = verl's `search_r1`": False,
        "verl's `search_r1`, substring": True,
        "LoongRL's two-way substring": True,
        "LongBench's F1, at least 0.5": False,
        "LongBench's F1, at least 0.8": False,
    }
