"""Answers are found, graded by rule or by judge, and what could not be had counts as neither right nor wrong."""

import asyncio

import pytest
from support.fake_openai_server import failure, reply
from support.pipeline_runs import row_of, servers_at

from data_gen.grounding.answer import AnswerStage, AnswerStageOptions, read_answer
from data_gen.grounding.prompts import CRITERIA
from data_gen.grounding.select import SelectOptions
from data_gen.llm_json import UnreadableReply

CANDIDATE = {
    "cluster": 1,
    "candidate": 0,
    "status": "ok",
    "question": "Which port?",
    "answer": "Hull",
    "evidence": [0, 1],
}
DOCUMENT = {
    "ingest": {"id": "d", "text": "She left Bergen.\n\nShe reached Hull."},
    "chunk": {"id": "d", "spans": [[0, 16, 4], [18, 35, 4]]},
    "generate": {"id": "d", "candidates": [CANDIDATE]},
    "judge": {"id": "d", "ratings": [{"cluster": 1, "candidate": 0, **dict.fromkeys((*CRITERIA, "score"), 9.5)}]},
}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: Hull", "Hull"),
        ("I think.\n\n**Answer: Hull**\n", "Hull"),
        ("Answer: no, wait.\nAnswer: Hull", "Hull"),
        ("It is\nHull", "Hull"),
        ("<think>Answer: Bergen</think>Answer: Hull", "Hull"),
        ("", ""),
    ],
)
def test_the_answer_is_the_last_one(text, answer):
    assert read_answer(text) == answer


def test_reasoning_that_never_ends_is_no_answer():
    with pytest.raises(UnreadableReply):
        read_answer("<think>Answer: Hull")


def examine(server, tmp_path, **options):
    """The row of DOCUMENT."""
    servers = servers_at(server.url, ["default"])
    stage = AnswerStage(AnswerStageOptions(**options), SelectOptions(), servers, 0)
    return row_of(stage, tmp_path, DOCUMENT)


def kind(body):
    first = body["messages"][0]["content"]
    return "grade" if first.startswith("You grade") else "read" if first.startswith("Document:") else "closed"


def test_both_ways_are_asked_and_graded(server, tmp_path):
    answers = {"closed": "Answer: Rome", "read": "Answer: The port of Hull"}

    def behave(body, n):
        if kind(body) == "grade":
            mark = body["messages"][1]["content"].rpartition("VERDICT-")[2].partition(":")[0]
            return f"VERDICT-{mark}: {'SAME' if 'port of Hull' in body['messages'][1]['content'] else 'DIFFERENT'}"
        return answers[kind(body)]

    server.behave = behave
    row = examine(server, tmp_path, closed_book=1, with_document=2)
    (answer,) = row["answers"]
    assert answer["closed_book"] == {"default": [{"text": "Rome", "correct": False}]}
    assert answer["with_document"] == {"default": [{"text": "The port of Hull", "correct": True}] * 2}
    assert row["counts"]["answers with_document right"] == 2
    shown = next(body for body in server.bodies if kind(body) == "read")["messages"][0]["content"]
    assert DOCUMENT["ingest"]["text"] in shown
    assert len({body["seed"] for body in server.bodies if kind(body) == "read"}) == 2


def test_an_equal_answer_needs_no_judge(server, tmp_path):
    server.behave = lambda body, n: "Answer: hull."
    examine(server, tmp_path, closed_book=0, with_document=3)
    assert {kind(body) for body in server.bodies} == {"read"}


@pytest.mark.parametrize(
    ("reading", "grading", "correct"),
    [
        (lambda: failure(400, "too long"), "x", None),
        (lambda: "<think>for ever", "x", None),
        (lambda: reply("Let me think about it", "length"), "x", False),
        (lambda: "Answer: Kingston upon Hull", "no verdict", None),
        (lambda: "Answer:", "x", False),
    ],
)
def test_what_could_not_be_had(server, tmp_path, reading, grading, correct):
    server.behave = lambda body, n: grading if kind(body) == "grade" else reading()
    row = examine(server, tmp_path, closed_book=0, with_document=1)
    assert row["answers"][0]["with_document"]["default"][0]["correct"] is correct
    assert row["counts"]["answers with_document ungraded"] == (correct is None)


def test_a_document_without_finalists_is_not_asked_about():
    stage = AnswerStage(AnswerStageOptions(), SelectOptions(threshold=9.9), {}, 0)
    assert asyncio.run(stage.row(DOCUMENT)) == {"id": "d", "answers": [], "counts": {"candidates answered": 0}}
