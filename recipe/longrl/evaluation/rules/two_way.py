"""LoongRL's rule of multi-hop questions: a two-way substring match of the last box (arXiv 2510.19363, equation 3).

Published: either text is a substring of the other, after normalization. Strict: the guarded two-way match of
`verl_longrl.rewards.matching.two_way_match`. Both are the scorer that LoongRL's data is trained with.
"""

from __future__ import annotations

from verl_longrl.rewards import RewardOptions
from verl_longrl.rewards.matching.response_format import parse_boxed
from verl_longrl.rewards.tasks.loongrl_qa import loongrl_qa

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import golds_of, question_of

_PUBLISHED, _STRICT = RewardOptions(paper_exact=True), RewardOptions()


def two_way_published(text: str, row: Row) -> Outcome:
    """LoongRL's released rule; a text without `</think>` earns 0, as in its code."""
    return _score(text, row, _PUBLISHED)


def two_way_strict(text: str, row: Row) -> Outcome:
    """The guarded two-way match of the last box after the reasoning."""
    return _score(text, row, _STRICT)


def _score(text: str, row: Row, options: RewardOptions) -> Outcome:
    result = loongrl_qa(text, golds_of(row), {"question": question_of(row)}, options)
    return Outcome(result.value, parse_boxed(text, paper_exact=options.paper_exact).answer)
