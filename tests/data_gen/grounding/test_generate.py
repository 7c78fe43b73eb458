"""What a model may say about a cluster, and what becomes of it when it says something else."""

import pytest

from data_gen.grounding.generate import BrokenRule, read_candidate
from data_gen.grounding.judge import mean_rating, read_rating
from data_gen.grounding.prompts import CRITERIA
from data_gen.llm_json import UnreadableReply

GOOD = {
    "question": "Which two ports did she call at?",
    "answer": "Bergen and Hull",
    "evidence": [2, 0],
    "explanation": "e",
}
CLUSTER = [3, 8, 15, 40]


def test_evidence_is_mapped_to_the_documents_chunks():
    assert read_candidate(GOOD, CLUSTER, 2) == {**GOOD, "evidence": [3, 15]}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"question": "SKIPPED", "answer": "", "evidence": []}, "skipped"),
        ({"question": "  "}, "empty"),
        ({"answer": ""}, "empty"),
        ({"answer": 42}, "empty"),
        ({"evidence": [0, 4]}, "wrong_evidence"),
        ({"evidence": [-1, 0]}, "wrong_evidence"),
        ({"evidence": ["0", "1"]}, "wrong_evidence"),
        ({"evidence": [True, 0]}, "wrong_evidence"),
        ({"evidence": "0, 1"}, "wrong_evidence"),
        ({"evidence": [1, 1]}, "little_evidence"),
        ({"evidence": []}, "little_evidence"),
        ({"answer": "word " * 41}, "long_answer"),
        ({"question": "What does excerpt 2 say?"}, "mentions_excerpts"),
        ({"answer": "It is in [Excerpt 3]."}, "mentions_excerpts"),
        ({"question": "See <CHUNK_3>?"}, "mentions_excerpts"),
    ],
)
def test_broken_rules(change, status):
    with pytest.raises(BrokenRule, match=f"^{status}: "):
        read_candidate({**GOOD, **change}, CLUSTER, 2)


def test_limits_are_inclusive():
    assert read_candidate({**GOOD, "answer": "word " * 40}, CLUSTER, 2)["answer"].count("word") == 40
    assert read_candidate({**GOOD, "evidence": [1]}, CLUSTER, 1)["evidence"] == [8]


@pytest.mark.parametrize("score", ["9", True, None, -1, 11, [9]])
def test_ratings_are_numbers_from_0_to_10(score):
    good = dict.fromkeys((*CRITERIA, "score"), 9)
    assert read_rating(good) == {**dict.fromkeys((*CRITERIA, "score"), 9.0), "remark": ""}
    with pytest.raises(UnreadableReply, match=r"score = .*: expected a number from 0 to 10"):
        read_rating({**good, "score": score})


def test_the_mean_of_what_could_be_read():
    nine, seven = (read_rating(dict.fromkeys((*CRITERIA, "score"), score)) for score in (9, 7))
    assert mean_rating([nine, {"remark": "lost"}, seven])["score"] == 8.0
    assert mean_rating([{"remark": "a"}, {"remark": "b"}]) == {"score": None, "remark": "b"}
