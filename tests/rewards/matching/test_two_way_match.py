"""LoongRL's two-way match: what it adds to `contain`, every known way to cheat it, and the published rule."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reward_cases import load_table
from verl_longrl.rewards import AnswerOptions, RewardOptions
from verl_longrl.rewards.matching.answer_match import correctness
from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS, MAX_CHARS, answer_tokens
from verl_longrl.rewards.matching.two_way_match import is_relative_date, matches_as_published

TABLE = load_table("two_way_match")
PUBLISHED = TABLE.pop("published")
ANSWERS = load_table("answer_match")
MODES = ["exact", "contain", "two_way", "f1"]

# fmt: off
WORDS = st.sampled_from([
    "Paris", "New", "York", "City", "of", "the", "and", "or", "not", "no", "yes", "12", "1943", "metres", "Obama", "II",
    ",", ".", ";", "years", "ago", "last", "%", "Alice", "5", "true", "C++", "Kansas",
])
# fmt: on
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
GOLDS = TEXTS.filter(answer_tokens)


def score(candidate, gold, mode="two_way", question=""):
    options = RewardOptions(answer=AnswerOptions(mode=mode))
    return correctness(candidate, gold, options, extra_info={"question": question})


@pytest.mark.parametrize(
    ("expected", "case"),
    [(float(kind == "correct"), case) for kind, cases in TABLE.items() for case in cases],
    ids=lambda value: f"{value['candidate']!r} for {value['gold']!r}" if isinstance(value, dict) else "",
)
def test_table(expected, case):
    assert score(case["candidate"], case["gold"], question=case.get("question", "")) == expected


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case['candidate']!r} for {case['gold']!r}")
def test_the_published_rule(case):
    golds = case["gold"] if isinstance(case["gold"], list) else [case["gold"]]
    assert any(matches_as_published(case["candidate"], gold) for gold in golds) == case["pays"]


def test_tricks_against_other_modes_do_not_pay():
    """With one exception, on purpose: a number may lack its unit."""
    paid = [
        case for case in ANSWERS["gaming"] if score(case["candidate"], case["gold"], question=case.get("question", ""))
    ]
    assert paid == [{"candidate": "10", "gold": "10km"}]


@settings(deadline=None)
@given(TEXTS, GOLDS)
def test_it_accepts_whatever_contain_accepts(candidate, gold):
    if not is_relative_date(answer_tokens(gold)):
        assert score(candidate, gold) >= score(candidate, gold, "contain")


@settings(deadline=None)
@given(TEXTS, GOLDS)
def test_it_accepts_nothing_that_the_tokens_do_not_show(candidate, gold):
    """Guarded is stricter than published: an accepted answer is a run of the gold one's tokens, or the reverse, or has
    the same members in another order, told apart by the same words."""
    mine, theirs = (f" {' '.join(answer_tokens(text))} " for text in (candidate, gold))
    if score(candidate, gold):
        words, others = (set(text.split()) - FUNCTION_WORDS for text in (mine, theirs))
        assert mine in theirs or theirs in mine or words == others


@settings(deadline=None)
@given(st.lists(st.sampled_from([*sorted(FUNCTION_WORDS), ".", ",", "?!", "—", "'", "*"])).map(" ".join))
def test_no_mode_pays_for_words_that_say_nothing(candidate):
    golds = ["Paris", "the Eiffel Tower", "Battle of Hastings", "14 April 1943", "yes", "no", "12 metres", "last week"]
    assert not any(score(candidate, gold, mode) for mode in MODES for gold in golds)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["Anna", "Bell", "Carl", "Dora"]), min_size=1, max_size=2), st.data())
def test_no_part_pays_for_two_answers_that_share_half_of_their_words(shared, data):
    """The reason for "more than half": a guess at a part that many answers share earns nothing."""
    rest = data.draw(st.lists(st.just("Gray"), min_size=len(shared), max_size=4))
    assert score(" ".join(shared), " ".join([*shared, *rest])) == 0
    assert score(" ".join(shared), " ".join([*rest, *shared])) == 0


@pytest.mark.parametrize("piece", ["1 ", "of ", "Paris ", ", ", "x > ", "last "])
def test_no_answer_is_slow(piece):
    whole = (piece * MAX_CHARS)[:MAX_CHARS]
    started = time.perf_counter()
    for candidate in (piece * 500_000, whole, whole[: MAX_CHARS // 2] + "Rome"):
        score(candidate, "Paris " + whole)
    assert time.perf_counter() - started < 20
