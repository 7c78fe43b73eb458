"""What the models are asked, and the JSON they answer with.

Chunks are shown to the generator and the judge with numbers of their own, 0 to n-1 within the cluster; the stages map
them to the document's. Own wording; the requirements are LongRLVR's (section on data, and the released prompts'
rubric), with two changes: the judge sees the evidence and rates its necessity, as the paper says, and the criteria are
rated one by one before the whole.
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

_QUESTION = f"""You write examination questions about long documents. Below are excerpts from one document, numbered, \
in the order of the document. They are about related things, but they may stand far apart.

Write one question and its answer such that
- answering it takes information from several excerpts, as many as fit together naturally; no single one is enough;
- the excerpts alone settle the answer: it is stated in them or follows from them by reasoning that you can show;
- there is one right answer, at most {MAX_ANSWER_WORDS} words long, that a reader could check;
- the question can be understood by someone who sees only the document and the question: name persons, things and \
events in full, do not write "the excerpt", "the text above" or excerpt numbers, in neither question nor answer;
- it is not a question about wording or layout, and general knowledge does not answer it.

Reply with one JSON object and nothing else, with these keys:
  "question": the question
  "answer": the answer, at most {MAX_ANSWER_WORDS} words
  "evidence": the numbers of all excerpts that are needed to answer, and of no others, for example [0, 3]
  "explanation": how the answer follows from them, step by step, at most {MAX_EXPLANATION_WORDS} words
If the excerpts do not allow such a question, reply with
  {{"question": "{SKIPPED}", "answer": "", "evidence": [], "explanation": "why not"}}"""

_RATING = """You check examination questions about long documents before they are used. Below are excerpts from one \
document, numbered, then a question made from them, its reference answer and the evidence: the numbers of the excerpts \
that are said to be needed.

Rate each of these from 0 (useless) to 10 (nothing to improve):
  "challenge": the question is worth asking and takes several excerpts brought together; finding one sentence is not \
enough
  "correctness": every statement of the answer is supported by the excerpts, nothing contradicts them
  "completeness": the answer gives all that the question asks for
  "clarity": one reading, one right answer; persons and things are named in full, no vague references ("the man", \
"this method", "the text above")
  "necessity": each evidence excerpt is needed for the answer, and no excerpt that is needed is missing from the list
then
  "remark": the greatest weakness, in at most 30 words
  "score": the whole, from 0 to 10; above 8 only when no criterion is below 8

Be strict: most questions deserve less than 9. Reply with one JSON object with these keys and nothing else."""

_CLOSED_BOOK = """Answer the question as well as you can from what you know. Think briefly, then end with one line:
Answer: your answer, as short as it can be"""

_WITH_DOCUMENT = """Answer the question from the document above and from nothing else. Think briefly, then end with \
one line:
Answer: your answer, as short as it can be"""


def question_prompt(chunks: Sequence[str]) -> Messages:
    """Ask for one question about a cluster's chunks."""
    return [{"role": "system", "content": _QUESTION}, {"role": "user", "content": _excerpts(chunks)}]


def rating_prompt(chunks: Sequence[str], question: str, answer: str, evidence: Sequence[int]) -> Messages:
    """Ask for a rating of a question; `evidence` in the numbers of `chunks`."""
    numbers = ", ".join(map(str, evidence))
    content = f"{_excerpts(chunks)}\n\nQuestion: {question}\nReference answer: {answer}\nEvidence: excerpts {numbers}"
    return [{"role": "system", "content": _RATING}, {"role": "user", "content": content}]


def answer_prompt(question: str, document: str | None) -> Messages:
    """Ask a question, with the document or (None) without."""
    if document is None:
        return [{"role": "user", "content": f"Question: {question}\n\n{_CLOSED_BOOK}"}]
    return [{"role": "user", "content": f"Document:\n{document}\n\nQuestion: {question}\n\n{_WITH_DOCUMENT}"}]


def _excerpts(chunks: Sequence[str]) -> str:
    return "\n\n".join(f"[Excerpt {number}]\n{chunk}" for number, chunk in enumerate(chunks))
