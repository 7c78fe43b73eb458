"""RULER's metrics `all` and `part` (arXiv 2404.06654, scripts/eval/synthetic/constants.py), and strict ones.

Official: control characters become newlines, and a reference counts when it is a substring, in lower case, of all that
was generated. So "no" is found in "north", and a copy of the document earns everything.

Strict, lists (`match_all_strict`): values are found as whole tokens in the final answer, and every value of the same
kind beyond the number asked for cancels one that was found:

    value = max(0, found - max(0, named - asked)) / asked

With no more values named than asked for, this is the official share. A further guess pays only what it costs when it is
right for sure. Values of the same kind are uuids, numbers with as many digits, or words (of the same length, where
three golds or more have one); function words and words of the question are not values. A negation, a hedge or an
alternative next to the list ("not", "maybe", "or") earns 0.

Strict, questions (`match_part_strict`): the final answer is one of the golds and nothing else that makes a claim, by
`verl_longrl.rewards.matching.answer_match`.
"""

from __future__ import annotations

import re

from verl_longrl.rewards.matching.qualifiers import DENIALS, HEDGES
from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import final_answer, golds_of, is_right, question_of, stated_answer

_CONTROL = re.compile(r"[\x00-\x1f]")
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WORD = re.compile(r"[^\W_]+")
_UNDECIDED = DENIALS | HEDGES


def share_found(text: str, references: list[str]) -> float:
    """The share of references that are substrings of `text`, as RULER's `string_match_all` finds them."""
    prediction = _CONTROL.sub("\n", text.strip()).strip().lower()
    return sum(reference.lower() in prediction for reference in references) / len(references)


def match_all(text: str, row: Row) -> Outcome:
    """RULER's official metric of niah, vt, cwe and fwe: the share of references found."""
    return Outcome(share_found(text, golds_of(row)), text.strip())


def match_part(text: str, row: Row) -> Outcome:
    """RULER's official metric of qa_1 and qa_2: whether any reference is found."""
    return Outcome(float(share_found(text, golds_of(row)) > 0), text.strip())


def match_all_strict(text: str, row: Row) -> Outcome:
    """The share of references in the final answer, less the values named beyond the number asked for."""
    answer, golds = final_answer(text), [gold.casefold() for gold in dict.fromkeys(golds_of(row))]
    folded = answer.casefold()
    found = [gold for gold in golds if _whole(re.escape(gold)).search(folded)]
    words = set(_WORD.findall(folded.replace("'", "").replace("’", "")))
    if not _UNDECIDED.isdisjoint(words - set(_WORD.findall(" ".join(golds)))):
        return Outcome(0.0, answer)
    extra = _other_values(folded, golds, f"{question_of(row)} {row.answer_prefix}".casefold())
    surplus = max(0, len(found) + len(extra) - len(golds))
    parts = {"recall": len(found) / len(golds), "surplus": float(surplus)}
    return Outcome(max(0, len(found) - surplus) / len(golds), answer, parts)


def match_part_strict(text: str, row: Row) -> Outcome:
    """Whether the final answer is one of the references and nothing else that makes a claim."""
    answer = stated_answer(text)
    return Outcome(float(is_right(answer, row)), answer)


def _other_values(answer: str, golds: list[str], question: str) -> set[str]:
    """The values in `answer` that are of the golds' kind, but neither golds nor words of the question."""
    kind = _value_pattern(golds)
    allowed = {*golds, *kind.findall(" ".join(golds)), *kind.findall(question), *FUNCTION_WORDS}
    return set(kind.findall(answer)) - allowed


def _value_pattern(golds: list[str]) -> re.Pattern[str]:
    """A pattern of all values of the golds' kind."""
    if all(re.fullmatch(_UUID, gold) for gold in golds):
        return _whole(_UUID)
    lengths = {len(gold) for gold in golds}
    if all(gold.isdigit() for gold in golds):
        return _whole(f"[0-9]{{{min(lengths)},{max(lengths)}}}")
    # Generated names; a few words of a language have the same length by chance.
    if len(golds) > 2 and len(lengths) == 1 and all(gold.isalpha() for gold in golds):
        return _whole(rf"[^\W\d_]{{{len(golds[0])}}}")
    return _whole(r"[^\W\d_]+")


def _whole(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])")
