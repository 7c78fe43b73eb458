"""Chains of keys that hide the question: LoongRL's KeyChain (arXiv 2510.19363, section 3.1), with every choice seeded.

A chain of h hops is h pairs: key -> key -> ... -> question. One chain leads from the prompt's key to the true question,
the others to questions of other samples. The published chains all have one shape, so that what is found at the end of
any chain is a question; `structures` makes the others harder to tell from the true one:

- plain: as many hops as the true chain;
- unequal: 1 to 2h - 1 hops;
- dangling: ends in a key that no pair has;
- loop: ends in a key of its own;
- fork: begins like another of these chains, and leaves it at a key that then has several values.

The true chain is never forked into, looped into or shared: `chain_solver.py` proves it for every sample.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from verl_longrl.rewards.options import Options, choice, number

Identifiers = Literal["uuid", "hex8"]
Structure = Literal["plain", "unequal", "dangling", "loop", "fork"]
Order = Literal["random", "reverse"]


@dataclass(frozen=True)
class ChainOptions(Options):
    """per_1k_tokens: chains for every 1,024 tokens of the budget (published: 1 in stage I, 4 in stage II), at least 2.
    hops: pairs of the true chain. identifiers: 36-character UUIDs or 8 hexadecimal digits. structures: of the other
    chains, drawn evenly. order: where a chain's pairs stand in the text: anywhere, or (reverse) each before the one
    that leads to it."""

    per_1k_tokens: float = 1.0
    hops: int = 4
    identifiers: Identifiers = "uuid"
    structures: tuple[Structure, ...] = ("plain",)
    order: Order = "random"

    def __post_init__(self) -> None:
        number("chains.per_1k_tokens", self.per_1k_tokens, 0, open_low=True)
        number("chains.hops", self.hops, 1, whole=True)
        choice("chains.identifiers", self.identifiers, Identifiers)
        choice("chains.order", self.order, Order)
        for structure in self.structures:
            choice("chains.structures", structure, Structure)
        if not self.structures:
            raise ValueError("chains.structures is empty; name at least one, such as [plain]")

    def number_of_chains(self, budget: int) -> int:
        """Chains of a prompt of `budget` tokens, the true one included."""
        return max(2, round(self.per_1k_tokens * budget / 1024))

    def identifiers_needed(self, budget: int) -> int:
        """Identifiers from which the chains of a prompt can surely be made."""
        return self.number_of_chains(budget) * 2 * (self.hops + 1)


@dataclass(frozen=True)
class Pair:
    """key -> value. Keys are numbers of identifiers; the value is one too (`key2`), or a question's number
    (`question`, 0 for the true one)."""

    key: int
    key2: int | None = None
    question: int | None = None


@dataclass(frozen=True)
class Puzzle:
    """All pairs of a prompt, chain by chain in the order in which they are followed: `true`, and the `others`. `head`:
    the key at which the true chain begins. `questions`: how many there are, the true one included."""

    head: int
    true: tuple[Pair, ...]
    others: tuple[tuple[Pair, ...], ...]
    questions: int


def identifier(draw: random.Random, kind: Identifiers) -> str:
    """A random identifier."""
    bits = draw.getrandbits(128)
    return str(uuid.UUID(int=bits, version=4)) if kind == "uuid" else f"{bits & 0xFFFFFFFF:08x}"


def puzzle(draw: random.Random, options: ChainOptions, chains: int, identifiers: int) -> Puzzle:
    """`chains` chains over the identifiers 0 to `identifiers` - 1, each of which is used for one key at most.

    Raises ValueError when there are too few identifiers.
    """
    needed = chains * 2 * (options.hops + 1)
    if identifiers < needed:
        raise ValueError(f"{identifiers} identifiers; {chains} chains of {options.hops} hops may need {needed}")
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
            line = [Pair(draw.choice(draw.choice(others)).key, keys[0]), *line]
        others.append(line)
    return Puzzle(true[0].key, tuple(true), tuple(map(tuple, others)), questions)


def _line(keys: Sequence[int], last: Pair) -> list[Pair]:
    """key -> key -> ... and `last`, whose key is the last of `keys`."""
    return [Pair(a, b) for a, b in itertools.pairwise(keys)] + [last]
