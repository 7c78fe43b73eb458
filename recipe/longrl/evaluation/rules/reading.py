"""Read the answer out of a generated text: after the reasoning, in an <answer> block, or in a sentence.

Everything here runs in linear time and never raises.
"""

from __future__ import annotations

import re

from verl_longrl.rewards import AnswerOptions
from verl_longrl.rewards.matching.answer_match import matches_gold
from verl_longrl.rewards.matching.response_format import THINK_CLOSE, parse_sentence, visible_text

from recipe.longrl.evaluation.records import Row

_RULES = AnswerOptions()
_STATED = re.compile(r"\bthe answer is\b[\s:*]{0,8}|答案[是为][\s:：*]{0,8}", re.IGNORECASE)


def after_think(text: str) -> str:
    """The text after the last `</think>`; all of it without one."""
    return text.rpartition(THINK_CLOSE)[2]


def last_answer_block(text: str) -> str | None:
    """The text in the last closed `<answer>...</answer>`, wherever it is; None without one."""
    blocks = _closed_blocks(text, "answer")
    return blocks[-1][1] if blocks else None


def last_citation_block(text: str) -> str | None:
    """The text in the last closed `<useful_chunks>...</useful_chunks>`; None without one."""
    blocks = _closed_blocks(text, "useful_chunks")
    return blocks[-1][1] if blocks else None


def without_citations(text: str) -> str:
    """`text` without closed `<useful_chunks>...</useful_chunks>` blocks."""
    pieces, end = [], 0
    for block in _closed_blocks(text, "useful_chunks"):
        pieces.append(text[end : block.start()])
        end = block.end()
    return "".join([*pieces, text[end:]])


def tail(text: str) -> str:
    """The text after the last `</think>`, without citations."""
    return without_citations(after_think(text))


def final_answer(text: str) -> str:
    """The answer that strict rules look at: the last <answer> block after the reasoning, or else all text after it.

    "" when the reasoning never ends. Citations are removed.

    >>> final_answer("<think>Rome?</think><useful_chunks><CHUNK_1></useful_chunks><answer> Paris </answer>")
    'Paris'
    """
    visible, _ = visible_text(text)
    block = last_answer_block(visible)
    return (without_citations(visible) if block is None else block).strip()


def stated_answer(text: str) -> str:
    """The one answer that strict rules compare with a gold answer.

    It is the last <answer> block after the reasoning, or else the rest of the line after the last "answer is" or
    "Answer:", or else all text, so that a list of candidates is not read as its last line.

    >>> stated_answer("Two cities come to mind.\\nTherefore, the answer is Paris"), stated_answer("Rome\\nParis")
    ('Paris', 'Rome\\nParis')
    """
    visible, _ = visible_text(text)
    block = last_answer_block(visible)
    if block is not None:
        return block.strip()
    answer = without_citations(visible).strip()
    # Of a text in one line, `parse_sentence` returns everything exactly if no answer is stated.
    line = " ".join(answer.split("\n"))
    return answer if parse_sentence(line).answer == line else parse_sentence(answer).answer


def concluding_answer(text: str) -> str:
    """The final answer from its last "the answer is" to the end, or all of it without one.

    This is what a judge is shown: a list over several lines stays whole, which `stated_answer` would cut.

    >>> concluding_answer("Two are named, so the answer is:\\n- Paris\\n- Rome")
    '- Paris\\n- Rome'
    """
    answer = final_answer(text)
    stated = list(_STATED.finditer(answer))
    return (answer[stated[-1].end() :] if stated else answer).strip()


def question_of(row: Row) -> str:
    """The question of a row: `meta.question`, or else the last line of the last message."""
    if question := row.meta.get("question"):
        return str(question)
    lines = row.messages[-1]["content"].rstrip().rpartition("\n") if row.messages else ("", "", "")
    return lines[2].removeprefix("Question:").strip()


def golds_of(row: Row) -> list[str]:
    """The accepted answers of a row as texts. Raises ValueError, with the row's id, unless each one has a character."""
    golds = row.gold if isinstance(row.gold, (list, tuple)) else [row.gold]
    if not golds or not all(isinstance(gold, (str, int, float)) and str(gold).strip() for gold in golds):
        raise ValueError(f"row {row.id!r}: gold = {row.gold!r}: expected a non-empty text, or a list of them")
    return [str(gold) for gold in golds]


def is_right(answer: str, row: Row) -> bool:
    """Whether an answer says one of the row's gold answers, and nothing else that makes a claim."""
    question = question_of(row)
    return any(matches_gold(answer, gold, _RULES, question=question) for gold in golds_of(row))


def _closed_blocks(text: str, name: str) -> list[re.Match[str]]:
    """The matches of `<name>(.*?)</name>`, from left to right.

    Nothing after the last closing tag is searched, so each opening tag finds a closing one, and the time is linear.
    """
    last = text.rfind(f"</{name}>")
    pattern = re.compile(f"<{name}>(.*?)</{name}>", re.DOTALL)
    return list(pattern.finditer(text, 0, last + len(name) + 3)) if last >= 0 else []
