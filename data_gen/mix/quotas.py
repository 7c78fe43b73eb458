"""How many rows each source gives: counts as they are, the rest of the total by weight, to the row."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor

from data_gen.config import ConfigError
from data_gen.mix.config import SourceOptions


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """`total` in proportion to positive `weights`, as whole numbers that sum to it: every share is rounded down, and
    what is left over goes to the largest remainders (Hamilton's method), the first of equals first. Exact."""
    whole = sum(map(Fraction, weights))
    exact = [total * Fraction(weight) / whole for weight in weights]
    shares = [floor(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def rows_of(sources: Sequence[SourceOptions], usable: Sequence[int], total: int | None) -> list[int]:
    """Rows that each source is asked for. usable: how many each one has.

    Raises:
        ConfigError: the counts leave nothing of the total for the weights.
    """
    rows = [source.count or have for source, have in zip(sources, usable, strict=True)]
    weighted = [i for i, source in enumerate(sources) if source.weight is not None]
    if total is None or not weighted:
        return rows
    fixed = sum(number for i, number in enumerate(rows) if i not in weighted)
    if fixed >= total:
        raise ConfigError(f"total = {total} leaves nothing for the weights, the other sources give {fixed}; raise it")
    shares = largest_remainder(total - fixed, [sources[i].weight or 0.0 for i in weighted])
    for i, share in zip(weighted, shares, strict=True):
        rows[i] = share
    return rows
