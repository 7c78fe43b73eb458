"""Written tasks: replies become samples that their reward proves, and replies that break a rule are refused."""

import random
import re

import pytest

from data_gen.llm_json import BrokenRule
from data_gen.multitask.reward_proof import accepted_answers, is_proven, score_answer
from data_gen.multitask.write import check_evidence
from data_gen.multitask.written_tasks import BRIEFS
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.writing_brief import KINDS

SEEDS = range(40)
GOOD = {
    "qa": {
        "question": "Who repaired the mill that\nMilburn had bought?",
        "answer": "Ursula Quarles",
        "aliases": ["Quarles", "Miss Quarles", " "],
        "wrong": "Ottoline Selwyn",
        "evidence": ["Milburn bought the mill.", "Ursula repaired it."],
        "explanation": "Two sentences say so.",
    },
    "choice": {
        "question": "Why was the bridge closed?",
        "answer": "The frost had broken it",
        "distractors": ["The council had sold it", "Milburn was painting it", "It was never opened"],
        "evidence": ["The frost broke the bridge.", "It was closed after that."],
        "explanation": "Two sentences say so.",
    },
    "summary": {"summaries": [f"In year {n} the town was {' '.join(['calm and', 'mild but'] * 75)}" for n in (1, 2)]},
}


def brief(task, seed=0, **options):
    return BRIEFS[task](random.Random(seed), WriteOptions(**options))


def read(task, seed=0, change=None, **options):
    """The sample made of a good reply with a change; a summary gets the length and focus that this seed asks for."""
    instructions, found = brief(task, seed, **options), {**GOOD[task]}
    if task == "summary":
        words = int(re.search(r"about (\d+) words", instructions.instruction)[1])
        found["summaries"] = [" ".join(text.split()[:words]) for text in found["summaries"]]
        found |= {"focus": "the weather."} if "focus" in instructions.schema["required"] else {}
    found |= change or {}
    return instructions.parse_reply(found)


@pytest.mark.parametrize("task", BRIEFS)
def test_each_accepted_answer_earns_everything_and_a_neighbour_does_not(task):
    kinds = set()
    for seed in SEEDS:
        sample = read(task, seed).sample
        kinds.add(sample.kind)
        for answer in accepted_answers(task, sample.gold):
            assert score_answer(task, answer, sample.gold).value == 1.0
        wrong = score_answer(task, sample.neighbour, sample.gold)
        assert (wrong.status, wrong.value < 1.0) == ("ok", True)
        assert is_proven(task, sample)
        assert not is_proven(task, sample._replace(neighbour=accepted_answers(task, sample.gold)[-1]))
        assert read(task, seed).sample == sample
        assert set(brief(task, seed).schema["properties"]) == set(brief(task, seed).schema["required"])
    assert kinds == ({"whole", "focused"} if task == "summary" else set(KINDS))


def test_the_answers_of_a_question_are_short_and_different():
    sample = read(
        "qa", change={"aliases": ["Quarles", "Ursula Quarles", "a " * 13, *(f"{n} Quarles" for n in range(9))]}
    ).sample
    assert sample.gold == ["Ursula Quarles", "Quarles", "0 Quarles", "1 Quarles"]
    assert sample.question == "Who repaired the mill that Milburn had bought?"


def test_options_are_in_random_order_and_the_letter_is_that_of_the_right_one():
    letters = []
    for seed in SEEDS:
        sample = read("choice", seed).sample
        question, *options = [line for line in sample.question.split("\n") if line]
        texts = dict(re.findall(r"\(([A-D])\) (.+)", "\n".join(options)))
        assert question == GOOD["choice"]["question"]
        assert texts[sample.gold] == GOOD["choice"]["answer"]
        assert set(texts.values()) == {GOOD["choice"]["answer"], *GOOD["choice"]["distractors"]}
        letters.append(sample.gold)
    assert all(letters.count(letter) >= 4 for letter in "ABCD")


def test_a_summary_is_asked_for_with_its_length_and_what_it_is_about():
    whole, focused = (read("summary", focused_share=share).sample for share in (0.0, 1.0))
    assert re.fullmatch(r"Summarise the text in \d+ to \d+ words\.", whole.question)
    assert re.fullmatch(r"Summarise what the text says about the weather in \d+ to \d+ words\.", focused.question)
    for sample in (whole, focused):
        low, high = map(int, re.findall(r"\d+", sample.question))
        assert len(sample.gold) == 2
        assert all(low <= len(text.split()) <= high for text in sample.gold)


LONG = "so " * 90
BROKEN = [
    ("qa", {"question": "SKIPPED"}, "skipped: Two sentences"),
    ("qa", {"question": " "}, "empty: question"),
    ("qa", {"question": 3}, "empty: question"),
    ("qa", {"question": f"Who {LONG}?"}, "long_question"),
    ("qa", {"question": "What does the excerpt say of Milburn?"}, "mentions_excerpts: 'excerpt'"),
    ("qa", {"question": "Who is named in passage 3?"}, "mentions_excerpts"),
    ("qa", {"question": "Who is meant in the text above?"}, "mentions_excerpts"),
    ("qa", {"answer": ""}, "empty: answer"),
    ("qa", {"answer": "one of " * 7}, "long_answer: 14 words > 12"),
    ("qa", {"wrong": None}, "empty: wrong"),
    ("qa", {"aliases": "Quarles"}, "empty: aliases"),
    ("qa", {"evidence": [1, 2]}, "empty: evidence"),
    ("choice", {"question": "SKIPPED"}, "skipped"),
    ("choice", {"distractors": ["One", "Two"]}, "wrong_options"),
    ("choice", {"distractors": ["One", "Two", "Three", "Four"]}, "wrong_options"),
    ("choice", {"distractors": ["One", "Two", "the frost had broken it!"]}, "wrong_options"),
    ("choice", {"distractors": ["One", "Two", "None of the above"]}, "wrong_options: 'of the above'"),
    ("choice", {"distractors": ["One", "Two", "Both A and B"]}, "wrong_options: 'Both A' refers to other options"),
    ("choice", {"distractors": ["One", "Two", LONG]}, "long_answer"),
    ("choice", {"answer": LONG}, "long_answer"),
    ("summary", {"summaries": ["One is enough. " * 40]}, "few_summaries: 1"),
    ("summary", {"summaries": ["The same. " * 60] * 2}, "few_summaries: 1"),
    ("summary", {"summaries": ["Too short.", "Much too short."]}, "wrong_length: 2 words"),
    ("summary", {"summaries": "one text"}, "empty: summaries"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "change", "message"), BROKEN)
def test_broken_rules(task, change, message):
    with pytest.raises(BrokenRule, match=f"^{message}"):
        read(task, change=change, focused_share=0.0)


@pytest.mark.parametrize("focus", ["", "word " * 21])
def test_a_focus_is_named_in_a_few_words(focus):
    with pytest.raises(BrokenRule, match=r"^(empty|long_focus)"):
        read("summary", change={"focus": focus}, focused_share=1.0)


PASSAGES = [
    "The clerk saw the\nold mill. Nobody’s mill — “they” say.",
    "It stood\tby the weir for years.",
    "The end of it.",
]


@pytest.mark.parametrize(
    ("quotes", "least", "status"),
    [
        (["The clerk saw the old mill.", "stood by the weir for years"], 2, ""),
        (['Nobody\'s mill - "they" say.', "It stood by the weir"], 2, ""),
        (["mill — “they” say. It stood by the weir", "The end of it."], 2, ""),  # over the end of a passage
        (["The clerk saw the old mill."], 1, ""),
        (
            ["The clerk saw the old mill.", "saw the old mill. Nobody's"],
            2,
            "little_evidence: quotes from 1 passages < 2",
        ),
        ([], 1, "little_evidence"),
        (
            ["The clerk saw the new mill.", "stood by the weir for years"],
            2,
            "unsupported: 'The clerk saw the new mill.'",
        ),
        (["the clerk saw the old mill.", "stood by the weir for years"], 2, "unsupported"),
        (["The clerk saw", "stood by the weir for years"], 2, "unsupported: 'The clerk saw' is not a quote of 4 words"),
        (["", "stood by the weir for years"], 1, "unsupported"),
    ],
)
def test_evidence_stands_in_the_text_in_different_passages(quotes, least, status):
    if not status:
        check_evidence(quotes, PASSAGES, least)
        return
    with pytest.raises(BrokenRule, match=f"^{status}"):
        check_evidence(quotes, PASSAGES, least)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ["qa", "math"]}, r"write.tasks = \['qa', 'math'\]: expected some of qa, choice, summary"),
        ({"tasks": []}, "write.tasks"),
        ({"attempts": 0}, "write.attempts = 0"),
        ({"focused_share": 1.1}, "write.focused_share = 1.1"),
        ({"overlong_server": "big"}, "write.overlong_server = 'big': write.overlong_server needs write.server"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        WriteOptions.from_dict(wrong, "write.")
