"""Prompts of the grounding pipeline, and the schemas of the JSON that models reply with.

Chunks are shown to the generator and the judge with numbers of their own, 0 to n-1 within the cluster; the stages map
these to the document's. The wording is this project's own; the requirements are LongRLVR's (section on data, and the
rubric of the released prompts), with two changes: the judge sees the evidence and rates its necessity, as the paper
says, and it rates each criterion before it gives the overall score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Messages = list[dict[str, str]]

MAX_ANSWER_WORDS = 40
MAX_EXPLANATION_WORDS = 70
SKIPPED = "SKIPPED"
CRITERIA = ("challenge", "correctness", "completeness", "clarity", "necessity")

QUESTION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "question": {"type": "string"},
        "answer": {"type": "string"},
        "evidence": {"type": "array", "items": {"type": "integer"}},
        "explanation": {"type": "string"},
    },
    "required": ["question", "answer", "evidence", "explanation"],
    "additionalProperties": False,
}
RATING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: {"type": "number"} for name in CRITERIA},
        "remark": {"type": "string"},
        "score": {"type": "number"},
    },
    "required": [*CRITERIA, "remark", "score"],
    "additionalProperties": False,
}

_QUESTION = f"""You write exam questions about long documents. Below are numbered excerpts from one document, in the \
order in which they appear in it. They are about related subjects, but may be far apart.

Write one question and its answer such that
- answering it requires information from several excerpts, as many as fit together naturally; no single excerpt is \
enough;
- the excerpts alone determine the answer: it is stated in them, or follows from them by reasoning that you can show;
- there is exactly one correct answer, at most {MAX_ANSWER_WORDS} words long, that a reader could check;
- someone who sees only the document and the question understands the question: name people, things and events in \
full, and do not write "the excerpt", "the text above" or excerpt numbers in the question or the answer;
- it is not a question about wording or layout, and it cannot be answered from general knowledge.

Reply with one JSON object and nothing else, with these keys:
  "question": the question
  "answer": the answer, in at most {MAX_ANSWER_WORDS} words
  "evidence": the numbers of all excerpts that are needed for the answer, and of no others, for example [0, 3]
  "explanation": how the answer follows from them, step by step, in at most {MAX_EXPLANATION_WORDS} words
If the excerpts do not allow such a question, reply with
  {{"question": "{SKIPPED}", "answer": "", "evidence": [], "explanation": "the reason"}}"""

_RATING = """You review exam questions about long documents before they are used. Below are numbered excerpts from one \
document, followed by a question based on them, its reference answer, and the evidence: the numbers of the excerpts \
that are said to be needed.

Rate each of the following from 0 (useless) to 10 (nothing to improve):
  "challenge": the question is worth asking and requires combining several excerpts; finding one sentence is not enough
  "correctness": every statement in the answer is supported by the excerpts, and nothing contradicts them
  "completeness": the answer gives everything that the question asks for
  "clarity": the question has one interpretation and one correct answer; people and things are named in full, without \
vague references ("the man", "this method", "the text above")
  "necessity": every excerpt listed as evidence is needed for the answer, and no excerpt that is needed is missing
Then add
  "remark": the greatest weakness, in at most 30 words
  "score": the overall rating, from 0 to 10; above 8 only if no criterion is below 8

Be strict: most questions deserve less than 9. Reply with one JSON object with these keys and nothing else."""

_CLOSED_BOOK = """Answer the question as well as you can from what you know. Think briefly, then end with one line:
Answer: your answer, as short as possible"""

_WITH_DOCUMENT = """Answer the question using only the document above. Think briefly, then end with one line:
Answer: your answer, as short as possible"""


def question_prompt(chunks: Sequence[str]) -> Messages:
    """The request for one question about a cluster's chunks."""
    return [{"role": "system", "content": _QUESTION}, {"role": "user", "content": _excerpts(chunks)}]


def rating_prompt(chunks: Sequence[str], question: str, answer: str, evidence: Sequence[int]) -> Messages:
    """The request to rate a question; `evidence` holds places in `chunks`, from 0."""
    numbers = ", ".join(map(str, evidence))
    content = f"{_excerpts(chunks)}\n\nQuestion: {question}\nReference answer: {answer}\nEvidence: excerpts {numbers}"
    return [{"role": "system", "content": _RATING}, {"role": "user", "content": content}]


def answer_prompt(question: str, document: str | None) -> Messages:
    """The question, with its document or (document: None) without."""
    if document is None:
        return [{"role": "user", "content": f"Question: {question}\n\n{_CLOSED_BOOK}"}]
    return [{"role": "user", "content": f"Document:\n{document}\n\nQuestion: {question}\n\n{_WITH_DOCUMENT}"}]


def _excerpts(chunks: Sequence[str]) -> str:
    return "\n\n".join(f"[Excerpt {number}]\n{chunk}" for number, chunk in enumerate(chunks))
