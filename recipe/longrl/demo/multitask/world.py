"""A tiny world of texts with questions of five of GoLongRL's tasks, each rewarded by its own metric.

A text consists of short sentences in random order. Some put a thing into a room, on a day, or at a rank. Some say
which color a place has now and which it had before. Some lead from thing to thing and finally to a color. The rest is
chatter.

    task                 metric    question             sentences                               answer
    golongrl_retrieval   EM        color of door ?      door lamp .  lamp amber .               amber
    golongrl_exhaustive  F1        things of rooms ?    kitchen tower .                         kitchen tower, ...
    golongrl_matching    SubEM     colors of places ?   north is coral .  north was amber .     north coral, ...
    golongrl_ordering    pairs     order of days ?      monday gate .                           monday gate, ...
    golongrl_ranking     NDCG      order of ranks ?     second mill .                           first pond, ...

Every value is one or two words after the word that it is looked up by, and every text draws its own things and colors,
so that nothing can be answered without reading. Days are in the order of the week, ranks in ascending order.

Everything is a function of `(MultitaskWorld, seed)`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recipe.longrl.demo.words import KEYS, VALUES, chatter

ROOMS = ("kitchen", "cellar", "bedroom", "hall", "pantry", "study", "nursery", "parlor")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
RANKS = ("first", "second", "third", "fourth", "fifth", "sixth")
PLACES = ("north", "south", "east", "west", "center", "corner")


@dataclass(frozen=True)
class MultitaskWorld:
    """Sizes of the texts."""

    listed: tuple[int, int] = (3, 6)
    """Fewest and most rooms, and places, in a text."""
    hops: tuple[int, int] = (2, 4)
    """Fewest and most sentences from a thing to a color."""
    paths: int = 3
    """Things that lead to a color over such sentences."""
    chatter: int = 24
    """Sentences of chatter."""


@dataclass(frozen=True)
class MultitaskDocument:
    """A text and its facts: the thing in each room, on each day and at each rank, in order; the colors of places, `now`
    and `before`; and `paths` from a thing to a color, both included."""

    text: str
    rooms: Mapping[str, str]
    days: Mapping[str, str]
    ranks: Mapping[str, str]
    now: Mapping[str, str]
    before: Mapping[str, str]
    paths: tuple[tuple[str, ...], ...]

    @property
    def colors(self) -> tuple[str, ...]:
        """The colors at the ends of the paths."""
        return tuple(path[-1] for path in self.paths)


def documents(config: MultitaskWorld, seed: int | str) -> Iterator[MultitaskDocument]:
    """Texts without end; the same `(config, seed)` gives the same texts."""
    rng = random.Random(f"longrl-demo-multitask-{seed}")
    while True:
        yield _document(rng, config)


def _document(rng: random.Random, config: MultitaskWorld) -> MultitaskDocument:
    things, colors = iter(rng.sample(KEYS, len(KEYS))), iter(rng.sample(VALUES, len(VALUES)))
    room_names, places = (_some_names(rng, names, config) for names in (ROOMS, PLACES))
    rooms, days, ranks = (dict(zip(names, things, strict=False)) for names in (room_names, DAYS, RANKS))
    now, before = (dict(zip(places, colors, strict=False)) for _ in range(2))
    paths = tuple(
        (*(next(things) for _ in range(rng.randint(*config.hops))), next(colors)) for _ in range(config.paths)
    )
    sentences = [f"{name} {thing} ." for facts in (rooms, days, ranks) for name, thing in facts.items()]
    sentences += [f"{place} is {color} ." for place, color in now.items()]
    sentences += [f"{place} was {color} ." for place, color in before.items()]
    sentences += [f"{one} {other} ." for path in paths for one, other in itertools.pairwise(path)]
    sentences += [chatter(rng) for _ in range(config.chatter)]
    rng.shuffle(sentences)
    return MultitaskDocument(" ".join(sentences), rooms, days, ranks, now, before, paths)


def _some_names(rng: random.Random, names: tuple[str, ...], config: MultitaskWorld) -> tuple[str, ...]:
    """Some of the names, in their order."""
    drawn = set(rng.sample(names, rng.randint(*config.listed)))
    return tuple(name for name in names if name in drawn)
