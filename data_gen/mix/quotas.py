"""The number of rows of each source: fixed counts, and exact shares of the remaining total by weight."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor

from data_gen.config import ConfigError
from data_gen.mix.config import SourceOptions


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """`total` divided in proportion to positive `weights` into whole numbers that sum to it.

    Every share is rounded down, and the rows left over go to the largest remainders, of equal ones to the first
    (Hamilton's method). Computed with fractions, so there are no rounding errors. 10 rows with weights 1, 1, 1: 4, 3,
    3.
    """
    whole = sum(map(Fraction, weights))
    exact = [total * Fraction(weight) / whole for weight in weights]
    shares = [floor(share) for share in exact]
    # Minus the remainder, so the largest comes first; sorting is stable, so of equal ones the first does.
    by_remainder = sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def rows_per_source(sources: Sequence[SourceOptions], usable: Sequence[int], total: int | None) -> list[int]:
    """The number of rows to take from each source. usable: the number of rows that each one has.

    Raises:
        ConfigError: the counts leave no rows of the total for the weights.
    """
    rows = [source.count or have for source, have in zip(sources, usable, strict=True)]
    weighted = [i for i, source in enumerate(sources) if source.weight is not None]
    if total is None or not weighted:
        return rows
    fixed = sum(number for i, number in enumerate(rows) if i not in weighted)
    if fixed >= total:
        raise ConfigError(f"total = {total}: the sources without a weight already have {fixed} rows. Fix: raise total")
    shares = largest_remainder(total - fixed, [sources[i].weight or 0.0 for i in weighted])
    for i, share in zip(weighted, shares, strict=True):
        rows[i] = share
    return rows
