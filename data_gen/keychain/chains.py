"""Chains of keys that hide the question: LoongRL's KeyChain (arXiv 2510.19363, section 3.1), with seeded choices.

A chain of h hops is h pairs: key -> key -> ... -> question. One chain leads from the prompt's key to the true question,
the others to questions of other samples. The published chains all have the same shape, so that every chain ends in a
question. `structures` makes the false chains harder to distinguish from the true one:

- plain: as many hops as the true chain;
- unequal: 1 to 2h - 1 hops;
- dangling: ends in a key that is the key of no pair;
- loop: ends in one of its own keys;
- fork: begins at a key of another false chain, which then has several values.

No false chain shares a key with the true one: `chain_solver.py` proves this for every sample.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as option_group
from verl_longrl.options import OptionError, Options

Identifiers = Literal["uuid", "hex8"]
Structure = Literal["plain", "unequal", "dangling", "loop", "fork"]
Order = Literal["random", "reverse"]


@option_group(frozen=True)
class ChainOptions(Options):
    """Options of the chains of stage fill."""

    per_1k_tokens: PositiveFloat = 1.0
    """Chains for every 1,024 tokens of the prompt, at least 2 in all. Published: 1 in stage I, 4 in stage II."""
    hops: PositiveInt = 4
    """Pairs of the true chain."""
    identifiers: Identifiers = "uuid"
    """Form of the keys: 36-character UUIDs, or 8 hexadecimal digits (hex8)."""
    structures: tuple[Structure, ...] = ("plain",)
    """Structures of the false chains, drawn with equal probability: plain, unequal, dangling, loop, fork."""
    order: Order = "random"
    """Order of a chain's pairs in the text: random, or each pair before the one that leads to it (reverse)."""

    def __post_init__(self) -> None:
        if not self.structures:
            raise OptionError("structures", [], "expected at least one", "name some, such as [plain]")

    def number_of_chains(self, budget: int) -> int:
        """Chains of a prompt of `budget` tokens, the true one included."""
        return max(2, round(self.per_1k_tokens * budget / 1024))

    def identifiers_needed(self, budget: int) -> int:
        """An upper bound on the identifiers that the chains of a prompt need. An unequal chain has up to 2 * hops - 1
        keys, a dangling one a key more than it has pairs."""
        return self.number_of_chains(budget) * 2 * (self.hops + 1)


@dataclass(frozen=True)
class Pair:
    """key -> value. A key is the number of an identifier. The value is another one (`key2`), or the number of a
    question (`question`, 0 for the true one)."""

    key: int
    key2: int | None = None
    question: int | None = None


@dataclass(frozen=True)
class Puzzle:
    """All pairs of a prompt, those of each chain in the order in which it is followed: the `true` chain, and the
    `others`. `head`: the key at which the true chain begins. `questions`: their number, the true one included."""

    head: int
    true: tuple[Pair, ...]
    others: tuple[tuple[Pair, ...], ...]
    questions: int


def draw_identifier(draw: random.Random, kind: Identifiers) -> str:
    """A random identifier."""
    bits = draw.getrandbits(128)
    return str(uuid.UUID(int=bits, version=4)) if kind == "uuid" else f"{bits & 0xFFFFFFFF:08x}"


def draw_puzzle(draw: random.Random, options: ChainOptions, chains: int, identifiers: int) -> Puzzle:
    """`chains` chains over the identifiers 0 to `identifiers` - 1, each of which is at most one key.

    Raises ValueError when there are too few identifiers.
    """
    needed = chains * 2 * (options.hops + 1)
    if identifiers < needed:
        raise ValueError(f"{identifiers} identifiers: {chains} chains of {options.hops} hops may need {needed}")
    fresh = iter(draw.sample(range(identifiers), needed))
    keys = [next(fresh) for _ in range(options.hops)]
    true = _line(keys, Pair(keys[-1], question=0))
    others: list[list[Pair]] = []
    questions = 1
    for _ in range(chains - 1):
        structure = draw.choice(options.structures)
        hops = draw.randint(1, 2 * options.hops - 1) if structure == "unequal" else options.hops
        keys = [next(fresh) for _ in range(hops)]
        if structure == "dangling":
            last = Pair(keys[-1], next(fresh))
        elif structure == "loop":
            last = Pair(keys[-1], draw.choice(keys))
        else:
            last = Pair(keys[-1], question=questions)
            questions += 1
        line = _line(keys, last)
        if structure == "fork" and others:
            # A pair from a key of another false chain: that key now has two values.
            line = [Pair(draw.choice(draw.choice(others)).key, keys[0]), *line]
        others.append(line)
    return Puzzle(true[0].key, tuple(true), tuple(map(tuple, others)), questions)


def _line(keys: Sequence[int], last: Pair) -> list[Pair]:
    """Pairs key -> key -> ... over `keys`, then `last`, whose key is the last of `keys`."""
    return [Pair(a, b) for a, b in itertools.pairwise(keys)] + [last]
