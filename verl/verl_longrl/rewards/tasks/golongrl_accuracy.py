"""GoLongRL's Accuracy: the first line after `[Answer]` equals the gold answer (arXiv 2605.19577, task Accuracy).

Answer form: the first line after the last `[Answer]`.

Not seen: synonyms, and an answer that needs more than one line.

The task is `golongrl_qa`; `golongrl_choice.py` has the other format of this task, a letter in a sentence. Only the
first line is read, so there is one guess. Where the gold answer consists of letters, "(B) Paris" is B and "A, C" is AC,
but "A/B" is neither A nor B. Other lines are compared as items of a list (`list_items.py`).

As published, the first line anywhere after the last `[Answer]` is compared in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.list_items import comparable_items, published_items
from verl_longrl.rewards.matching.response_format import parse_lines
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.golongrl_gold import gold_first
from verl_longrl.rewards.tasks.loongrl_choice import chosen_letter

_LETTERS = re.compile(r"[A-Z]{1,10}")
_BETWEEN_LETTERS = re.compile(r"[\s,;/|&+、，；.()（）*]+|\band\b|和|与")


@scorer("golongrl_qa", "Accuracy", gold=lambda truth, _: gold_first(truth))
def golongrl_qa(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score the first line; `ground_truth` is the answer, a list of accepted ones, or a released row's doc_ids, of
    which the first counts."""
    golds = gold_first(ground_truth)
    parsed = parse_lines(response, require_think=options.require_think, paper_exact=options.paper_exact)
    if parsed.error:
        return Score.format_error(parsed.error)
    return Score.of_answer(float(any(_is_right(parsed.answer[0], gold, options.paper_exact) for gold in golds)))


def _is_right(line: str, gold: str, paper_exact: bool) -> bool:
    letters = gold.strip()
    if not paper_exact and _LETTERS.fullmatch(letters):
        chosen = chosen_letter(line) if len(letters) == 1 else _BETWEEN_LETTERS.sub("", line).upper()
        return chosen == letters
    compared = published_items([gold], [line]) if paper_exact else comparable_items([gold], [line])
    return compared.expected == compared.listed
