"""GoLongRL's Accuracy: the first line after `[Answer]` equals the gold answer (arXiv 2605.19577, task Accuracy).

Answer form: the first line after the last `[Answer]`.

Not seen: synonyms, and an answer that needs more than one line.

The task is `golongrl_qa`; `golongrl_choice.py` has the other format of this task, a letter in a sentence. Only the
first line is read, so there is one guess. Lines are compared as items of a list (`list_items.py`). Where the gold
answer may be a choice of options, their letters are read too: "(B) Paris" is B and "A, C" is AC, but "A/B" is neither A
nor B. Options are listed in order, so AC may be a choice, but NASA and USA are names.

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

_OPTIONS = "ABCDEFGHIJ"
_BETWEEN_LETTERS = re.compile(
    r"(?i:\A\W*(?:the )?(?:correct )?(?:answers?|options?|choices?)(?: are| is)?(?!\w))"
    r"|[\s,:;/|&+、，；：.()（）*]+|\band\b|和|与"
)


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
    compared = published_items([gold], [line]) if paper_exact else comparable_items([gold], [line])
    return compared.expected == compared.listed or (not paper_exact and _chooses(line, gold.strip()))


def _chooses(line: str, letters: str) -> bool:
    """Whether the line chooses exactly these options; false where the gold answer is not a choice."""
    if len(letters) == 1:
        return letters.isascii() and letters.isupper() and chosen_letter(line) == letters
    is_choice = letters == "".join(sorted(set(letters))) and set(letters) <= set(_OPTIONS)
    return is_choice and _BETWEEN_LETTERS.sub("", line).upper() == letters
