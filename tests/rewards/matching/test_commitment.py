"""No text earns two different answers, whatever stands between them and whatever the question says."""

import itertools
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st
from verl_longrl.rewards import AnswerOptions
from verl_longrl.rewards.matching.answer_match import matches_gold
from verl_longrl.rewards.matching.qualifiers import COPULAS, HARMLESS, HONORIFICS, POINTERS
from verl_longrl.rewards.options import AnswerRule

MODES: tuple[AnswerRule, ...] = get_args(AnswerRule)
ANSWERS = [
    "Paris",
    "New York City",
    "Alice Munro",
    "14 April 1943",
    "1943",
    "12",
    "5 million",
    "$5",
    "北京",
    "上海",
    "C++",
]
SIGNS = [",", ";", ":", ".", "(", ")", "/", "-", "\n"]
GLUE = st.sampled_from([*sorted(HARMLESS | COPULAS | POINTERS | HONORIFICS), *SIGNS, "capital", "moons"])
QUESTIONS = ["", "What is the capital of the country?", "How many moons does it have?", "首都是哪个城市？"]


def paid(text, gold, question):
    return any(matches_gold(text, gold, AnswerOptions(mode=mode), question=question) for mode in MODES)


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(list(itertools.permutations(ANSWERS, 2))),
    st.lists(st.lists(GLUE, max_size=3).map(" ".join), min_size=3, max_size=3),
    st.sampled_from(QUESTIONS),
)
def test_one_text_earns_one_answer(pair, glue, question):
    first, second = pair
    text = f"{glue[0]} {first} {glue[1]} {second} {glue[2]}"
    assert not (paid(text, first, question) and paid(text, second, question)), text


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(list(itertools.permutations(["Paris", "Rome", "Alice Munro", "12", "1943"], 2))), st.data())
def test_alternatives_in_the_question_are_not_free(pair, data):
    right, other = pair
    question = data.draw(st.sampled_from([f"Is it {right} or {other}?", f"Which is older, {other} or {right}?"]))
    words = data.draw(st.permutations([right, other, *data.draw(st.lists(GLUE, max_size=3))]))
    text = " ".join(words)
    assert not (paid(text, right, question) and paid(text, other, question)), text
