"""Precision, recall and F2 of the cited chunks against the gold chunks, for any benchmark that knows its evidence.

`cited_f2` reads citations from the last closed `<useful_chunks>` block, wherever it is; `cited_f2_strict` requires the
whole response contract (`response_format.py`), so a malformed response cites nothing. `<CHUNK 3>`, as the README of the
released LongRLVR models has it, counts as `<CHUNK_3>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from verl_longrl.rewards.matching.response_format import cited_chunks, parse_grounded
from verl_longrl.rewards.tasks.longrlvr_f_beta import f_beta

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import last_citation_block

BETA = 2.0
"""Recall weighs four times as much as precision, as in LongRLVR's reward."""
_SPACED = re.compile(r"<\s{0,4}CHUNK\s{1,4}(?=[0-9])")


def cited_f2(text: str, row: Row) -> Outcome:
    """F2 of the chunks cited in the last closed block. `parts`: precision, recall, cited, outside."""
    return _agreement(cited_chunks(_underscored(last_citation_block(text) or "")), row)


def cited_f2_strict(text: str, row: Row) -> Outcome:
    """F2 of the chunks cited in a response that keeps the contract, else 0. `parts` as in `cited_f2`."""
    return _agreement(parse_grounded(_underscored(text)).cited, row)


def _underscored(text: str) -> str:
    return _SPACED.sub("<CHUNK_", text)


def _agreement(cited: Sequence[int], row: Row) -> Outcome:
    if not row.evidence:
        raise ValueError(
            f"row {row.id!r}: evidence = {row.evidence!r}: recall is undefined without gold chunks. "
            "Fix: score citations only where the benchmark knows its evidence"
        )
    distinct = sorted(set(cited))
    agreement = f_beta(distinct, row.evidence, BETA)
    parts = {"precision": agreement.precision, "recall": agreement.recall, "cited": float(len(distinct))}
    if (chunks := row.meta.get("num_chunks")) is not None:
        # Ids that are not in the document.
        parts["outside"] = float(sum(chunk >= chunks for chunk in distinct))
    return Outcome(agreement.f, ", ".join(map(str, distinct[:1000])), parts)
