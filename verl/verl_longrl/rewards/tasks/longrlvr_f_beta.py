"""LongRLVR's F-beta: how well the cited chunks agree with the evidence (arXiv 2603.02146, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class FBeta(NamedTuple):
    """Agreement of the cited chunks with the evidence, each number in [0, 1]."""

    precision: float
    recall: float
    f: float


def f_beta(
    cited: Sequence[int] | Collection[int],
    evidence: Collection[int],
    beta: float,
    *,
    count_duplicates: bool = False,
) -> FBeta:
    """Precision, recall and F_beta = (1 + beta^2) P R / (beta^2 P + R) of two sets of chunk ids.

    All are 0 when the sets share nothing. With `count_duplicates`, a repeated citation enlarges the denominator of
    precision, as in the released code. Raises ValueError without evidence: recall is undefined, so the row is wrong.

    >>> f_beta([1, 2, 7], [1, 2], beta=2.0)
    FBeta(precision=0.6666666666666666, recall=1.0, f=0.9090909090909091)
    """
    evidence_ids = set(evidence)
    if not evidence_ids:
        raise ValueError("evidence is empty, so recall is undefined; expected at least one chunk id in ref_chunks")
    shared = len(evidence_ids.intersection(cited))
    if not shared:
        return FBeta(0.0, 0.0, 0.0)
    precision = shared / (len(cited) if count_duplicates else len(set(cited)))
    recall = shared / len(evidence_ids)
    return FBeta(precision, recall, (1 + beta**2) * precision * recall / (beta**2 * precision + recall))
