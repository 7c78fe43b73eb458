"""Every task: its answer is what a careful reader finds in the prompt, earns 1.0 from its own reward, and is not given
by a neighbour."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import planted_fact_docs, reference_solver, synthetic_books
from verl_longrl.rewards.tasks import golongrl

from data_gen.multitask.compose import TaskComposeOptions, passages_of, render_prompt
from data_gen.multitask.computed_tasks import ABILITIES, TASKS, data_source
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk
from data_gen.multitask.pool import COMPUTED, WRITTEN
from data_gen.multitask.reward_proof import is_proven, score_answer
from data_gen.multitask.visible_text import VisibleText
from data_gen.multitask.written_tasks import BRIEFS

KINDS = {
    "retrieval": {"after", "before"},
    "qa": {"meeting", "most", "last"},
    "exhaustive": {"mention", "either", "without", "years"},
    "math": {"occurrences", "passages", "difference", "distance", "years"},
    "table": {"words", "years"},
    "matching": {"sentences"},
    "ranking": {"frequency"},
    "ordering": {"sentences"},
}
OPTIONS = TaskComposeOptions(passage_words=40)
TEXTS = [
    *(synthetic_books.document(seed) for seed in range(3)),
    synthetic_books.document(3, years=False),
    planted_fact_docs.document(4)[0],
]
PASSAGES = [passages_of(text, OPTIONS) for text in TEXTS]


def make(task, passages, seed, limits=Limits()):  # noqa: B008
    return TASKS[task](VisibleText(passages), random.Random(seed), limits)


def content(passages, sample):
    (message,) = render_prompt(passages, sample)
    return message["content"]


def reads_as_computed(task, passages, sample):
    """Whether a careful reader of the prompt comes to the sample's answer."""
    if task == "retrieval":
        return reference_solver.is_adjacent(sample.kind, sample.gold, content(passages, sample))
    return reference_solver.solve_prompt((task, sample.kind), content(passages, sample)) == sample.gold


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_what_a_careful_reader_finds_and_neighbours_are_worth_less(task):
    kinds = Counter()
    for number, passages in enumerate(PASSAGES):
        for seed in range(12):
            try:
                sample = make(task, passages, seed)
            except NothingToAsk:
                continue
            kinds[sample.kind] += 1
            assert reads_as_computed(task, passages, sample), (number, sample)
            assert score_answer(task, sample.gold, sample.gold).value == 1.0, sample
            wrong = score_answer(task, sample.neighbour, sample.gold)
            assert wrong.status == "ok"
            assert wrong.value < 1.0, sample
            assert is_proven(task, sample)
            assert make(task, passages, seed) == sample
    assert set(kinds) == KINDS[task]
    assert kinds.total() >= 40


@pytest.mark.parametrize("task", ["ordering", "ranking", "matching", "table", "exhaustive"])
def test_a_list_in_any_other_order_is_judged_as_the_task_says(task):
    sample = make(task, PASSAGES[0], 1)
    rows = sample.gold["data"] if task == "table" else sample.gold
    turned = {**sample.gold, "data": rows[::-1]} if task == "table" else rows[::-1]
    value = score_answer(task, turned, sample.gold).value
    assert (value < 1.0) == (task in ("ordering", "ranking"))


@pytest.mark.parametrize(("task", "chance"), [("ordering", 0.0), ("ranking", 0.1), ("qa", 0.35)])
def test_the_answer_is_not_laid_out_in_the_question(task, chance):
    """Over many seeds, what a question lists is in the order of the answer no more often than by chance."""
    given_away = tried = 0
    for seed in range(60):
        sample = make(task, PASSAGES[seed % 3], seed)
        asked = sample.question
        if task == "ordering":
            given_away += sample.gold == sorted(sample.gold)
        elif sample.kind in ("most", "last"):
            given_away += f': "{sample.gold}"' in asked
        elif task == "ranking":
            places = [asked.index(f'"{word}"') for word in sample.gold]
            given_away += places == sorted(places)
        else:
            continue
        tried += 1
    assert tried >= 20
    assert given_away <= tried * chance


def test_lists_are_as_long_as_asked_for_and_spread_over_the_text():
    for seed in range(30):
        sample = make("exhaustive", PASSAGES[seed % 3], seed, Limits(4, 9))
        assert 4 <= len(sample.gold) <= 9
        if sample.kind != "years":
            numbers = list(map(int, sample.gold))
            assert numbers == sorted(numbers)
            assert numbers[-1] - numbers[0] >= len(PASSAGES[seed % 3]) / 2
            assert len(numbers) < len(PASSAGES[seed % 3]) / 2


@pytest.mark.parametrize("task", TASKS)
def test_a_text_that_has_nothing_to_ask_is_refused(task):
    for passages in (["It is."] * 20, ["1840s, v1.2014 and 1848-49 are it"] * 20, ["the of and"], ["..."] * 12):
        with pytest.raises(NothingToAsk, match=r"^few_(terms|quotes|years)$"):
            make(task, passages, 0)


VOCABULARY = (
    "Arden", "Arden's", "arden", "Ardens", "Bexley", "Corvus", "Dunmore", "harbour", "harbours", "well-known", "known",
    "lantern", "LANTERN", "the", "of", "and", "in", "1812", "1812,", "1840s", "1999.", "Mr.", "U.S.", "[Answer]",
    "</think>", "Passage", "\\boxed{3}", "<answer>", "ex-\ntra", "\n", "café", "S3:", "2", "\"Yes!\"", "“No?”", "A/B",
)  # fmt: skip
CLEAN = st.builds(
    "{} and {} men of {} came to the harbour in {}.".format,
    st.sampled_from(("Arden", "Bexley", "Corvus", "Nobody")),
    st.integers(2, 99),
    st.sampled_from(("Dunmore", "Arden", "the town")),
    st.sampled_from(("1812", "1815", "May", "winter", "2001")),
)
SENTENCES = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=14).map(lambda words: " ".join(words) + ".")
SENTENCES = CLEAN | CLEAN | CLEAN | SENTENCES
CLEAR = st.lists(st.lists(CLEAN, min_size=1, max_size=4).map(" ".join), min_size=12, max_size=24)
PROSE = CLEAR | st.lists(st.lists(SENTENCES, min_size=1, max_size=4).map(" ".join), min_size=12, max_size=24)
ANYTHING = st.lists(st.text(max_size=60), min_size=1, max_size=15)


@settings(max_examples=60, deadline=None)
@given(passages=PROSE | ANYTHING, seed=st.integers(0, 2**31))
@pytest.mark.parametrize("task", TASKS)
def test_whatever_the_text_the_answer_is_right_or_there_is_none(task, passages, seed):
    passages = [passage.strip() for passage in passages if passage.strip()]
    try:
        sample = make(task, passages, seed)
    except NothingToAsk:
        return
    assert make(task, passages, seed) == sample
    assert reads_as_computed(task, passages, sample)
    is_proven(task, sample)  # true or false, but it never fails


def test_every_task_has_a_reward_and_a_name():
    assert set(ABILITIES) == {*TASKS, *BRIEFS}
    assert set(TASKS) == set(KINDS) == set(COMPUTED)
    assert set(BRIEFS) == set(WRITTEN)
    assert set(map(data_source, ABILITIES)) == set(golongrl.TASKS)
