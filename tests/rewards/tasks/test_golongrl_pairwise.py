"""Putting things in order: the table, Kendall's tau, and that leaving lines out never pays."""

from itertools import combinations
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score
from verl_longrl.rewards.tasks.golongrl_pairwise import pairwise, published_pairwise

TABLE = yaml.safe_load((Path(__file__).parents[1] / "cases/ordering.yaml").read_text())
ROWS = [(kind, case) for kind, cases in TABLE.items() for case in cases]
PUBLISHED = RewardOptions(paper_exact=True)
WANTED = list("abcdefg")
SOME = st.lists(st.sampled_from("abcdefgxyz"), max_size=10, unique=True)


def listing(lines):
    return "b, a</think>[Answer]\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("kind", "case"), ROWS, ids=lambda value: str(value["lines"]) if isinstance(value, dict) else value
)
def test_table(kind, case):
    result = score("golongrl_ordering", listing(case["lines"]), case["gold"])
    assert result.status == "ok"
    assert result.value == result.parts["answer"] == pytest.approx(case["value"], abs=5e-5)
    assert (kind == "correct") == (result.value == 1)
    assert tuple(result.metrics()) == METRIC_KEYS
    published = score("golongrl_ordering", listing(case["lines"]), case["gold"], options=PUBLISHED).value
    assert published == pytest.approx(case.get("published", case["value"]), abs=5e-5)


@given(st.permutations(WANTED))
def test_against_kendalls_tau(listed):
    tau = kendalltau(range(len(WANTED)), [listed.index(item) for item in WANTED]).statistic
    assert pairwise(WANTED, listed) == pytest.approx((tau + 1) / 2)
    assert published_pairwise(WANTED, listed) == pytest.approx((tau + 1) / 2)
    assert pairwise(WANTED, listed) + pairwise(WANTED, listed[::-1]) == pytest.approx(1)


@given(SOME)
def test_against_counting(listed):
    right = sum(x in listed and y in listed and listed.index(x) < listed.index(y) for x, y in combinations(WANTED, 2))
    longer = max(len(WANTED), len(listed))
    assert pairwise(WANTED, listed) == pytest.approx(right / (longer * (longer - 1) / 2))


@given(SOME, st.integers(0, 9))
def test_leaving_out_or_adding_lines_never_pays(listed, at):
    value = pairwise(WANTED, listed)
    assert 0 <= value <= 1
    assert pairwise(WANTED, listed[:at] + listed[at + 1 :]) <= value or len(listed) > len(WANTED)
    if len(listed) >= len(WANTED):
        assert pairwise(WANTED, [*listed, "junk"]) <= value


@pytest.mark.parametrize("gold", [["a"], ["a", " A "], "a"])
@pytest.mark.parametrize("paper_exact", [False, True])
def test_a_row_with_nothing_to_order_is_the_rows_fault(gold, paper_exact):
    result = score("golongrl_ordering", listing("a"), gold, options=RewardOptions(paper_exact=paper_exact))
    assert result.status == "scorer_error"
    assert "expected at least two different items" in result.reason
