"""Graded ranking: the table, trec_eval's own NDCG, and that a longer list is never worth more."""

from pathlib import Path

import ir_measures
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import nDCG
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score
from verl_longrl.rewards.tasks.golongrl_ndcg import guarded_ndcg, published_ndcg

TABLE = yaml.safe_load((Path(__file__).parents[1] / "cases/ranking.yaml").read_text())
ROWS = [(kind, case) for kind, cases in TABLE.items() for case in cases]
PUBLISHED = RewardOptions(paper_exact=True)
WANTED = st.integers(1, 6).map(lambda n: list("abcdef"[:n]))
LISTED = st.lists(st.sampled_from("abcdefuvwxyz"), min_size=1, max_size=12, unique=True)


def listing(lines):
    return "a is best</think>[Answer]\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("kind", "case"), ROWS, ids=lambda value: str(value["lines"]) if isinstance(value, dict) else value
)
def test_table(kind, case):
    result = score("golongrl_ranking", listing(case["lines"]), case["gold"])
    assert result.status == "ok"
    assert result.value == result.parts["answer"] == pytest.approx(case["value"], abs=5e-5)
    assert (kind == "correct") == (result.value == 1)
    assert tuple(result.metrics()) == METRIC_KEYS
    published = score("golongrl_ranking", listing(case["lines"]), case["gold"], options=PUBLISHED).value
    assert published == pytest.approx(case.get("published", case["value"]), abs=5e-5)


@pytest.mark.parametrize(
    ("lines", "value"), [("abcde", 1.0), ("edcba", 0.7222), ("a", 0.4868), ("abcdevwxyz", 1.0)], ids=str
)
def test_the_published_reference_values(lines, value):
    assert score("golongrl_ranking", listing(lines), list("abcde"), options=PUBLISHED).value == pytest.approx(
        value, abs=5e-5
    )


def trec_eval(wanted, listed):
    relevance = {"q": {item: len(wanted) - i for i, item in enumerate(wanted)}}
    run = {"q": {item: float(len(listed) - i) for i, item in enumerate(listed)}}
    return ir_measures.calc_aggregate([nDCG @ len(wanted)], relevance, run)[nDCG @ len(wanted)]


@settings(deadline=None)
@given(WANTED, LISTED)
def test_against_trec_eval(wanted, listed):
    expected = trec_eval(wanted, listed)
    assert published_ndcg(wanted, listed) == pytest.approx(expected)
    guard = len(wanted) / max(len(wanted), len(listed))
    assert guarded_ndcg(wanted, listed) == pytest.approx(expected * guard)


@given(WANTED, LISTED)
def test_range_and_guard(wanted, listed):
    value = guarded_ndcg(wanted, listed)
    assert 0 <= value <= 1
    assert (value == 1) == (listed == wanted)
    if len(listed) >= len(wanted):
        assert guarded_ndcg(wanted, [*listed, "junk"]) <= value
