"""MRCR's sequence ratio (huggingface.co/datasets/openai/mrcr), and a strict rule.

Official: 0 unless the response starts with the row's random prefix; then `difflib.SequenceMatcher(None, response,
answer).ratio()` without it. difflib's default `autojunk` is part of the metric: in an answer of 200 characters or more,
characters that make up over 1 % of it are not matched first. Without it no published figure is reproduced. The order of
the arguments matters for the same reason.

A reasoning model's text after the last `</think>` is compared, without leading white space, as evalscope does.

difflib is quadratic at worst, so the first `MAX_CHARS` characters of a response are compared, and the ratio is still
divided by its whole length. Such a response has a ratio below 0.02 for an answer of usual length, 1,800 characters, and
takes 0.2 s; a worst case (two letters at random) takes 5 s.

The conversation has several answers to nearly the same request, and they share much of their text: the ratio also pays
for a wrong one. Strict asks for a copy: the prefix, and an edit similarity of at least `COPY`, both in words and in
characters; a response of more than twice the length has none.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from rapidfuzz.distance import Indel

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import after_think

MAX_CHARS = 200_000
"""Characters of a response that are compared."""
COPY = 0.95
"""Least similarity of a copy, 2 * LCS / (length of both), which tolerates a wrong word in twenty."""


def sequence_ratio(response: str, answer: str) -> float:
    """difflib's ratio with its default `autojunk`, in [0, 1]; a lower bound for more than `MAX_CHARS` characters."""
    matcher = SequenceMatcher(None, response[:MAX_CHARS], answer)
    matched = sum(block.size for block in matcher.get_matching_blocks())
    total = len(response) + len(answer)
    return 2 * matched / total if total else 1.0


def mrcr_official(text: str, row: Row) -> Outcome:
    """MRCR's metric. `parts`: prefix, whether the response starts with the prefix."""
    response, answer = _without_prefix(text, row)
    if response is None:
        return Outcome(0.0, after_think(text).strip(), {"prefix": 0.0})
    return Outcome(sequence_ratio(response, answer), response, {"prefix": 1.0})


def mrcr_strict(text: str, row: Row) -> Outcome:
    """Whether the response is the prefix and a copy of the message asked for. `parts`: prefix, similarity."""
    response, answer = _without_prefix(text, row)
    if response is None:
        return Outcome(0.0, after_think(text).strip(), {"prefix": 0.0, "similarity": 0.0})
    if len(response) > 2 * len(answer) + 100:
        return Outcome(0.0, response, {"prefix": 1.0, "similarity": 0.0})
    in_words = Indel.normalized_similarity(response.split(), answer.split())
    similarity = min(in_words, Indel.normalized_similarity(response.strip(), answer.strip()))
    return Outcome(float(similarity >= COPY), response, {"prefix": 1.0, "similarity": similarity})


def _without_prefix(text: str, row: Row) -> tuple[str | None, str]:
    """Response and answer without the prefix; the response is None if it lacks it.

    Raises ValueError, with the row's id, for an answer without its prefix.
    """
    prefix = row.meta.get("random_string_to_prepend")
    if not isinstance(prefix, str) or not prefix or not isinstance(row.gold, str) or not row.gold.startswith(prefix):
        raise ValueError(
            f"row {row.id!r}: meta.random_string_to_prepend = {prefix!r}: expected the first characters of gold = "
            f"{str(row.gold)[:40]!r}"
        )
    response = after_think(text).lstrip()
    return response.removeprefix(prefix) if response.startswith(prefix) else None, row.gold.removeprefix(prefix)
