"""A tiny world of texts about which five of GoLongRL's tasks are asked, each rewarded by its own metric.

A text is short sentences in random order. Some put a thing into a room, on a day, or at a rank; some say which color a
place has now and which it had before; some lead from thing to thing and at last to a color; the rest is talk.

    task                 metric    question             sentences                               answer
    golongrl_retrieval   EM        color of door ?      door lamp .  lamp amber .               amber
    golongrl_exhaustive  F1        things of rooms ?    kitchen tower .                         kitchen tower, ...
    golongrl_matching    SubEM     colors of places ?   north is coral .  north was amber .     north coral, ...
    golongrl_ordering    pairs     order of days ?      monday gate .                           monday gate, ...
    golongrl_ranking     NDCG      order of ranks ?     second mill .                           first pond, ...

Everything that is looked up stands one or two words behind what it is looked up by, and every text draws its own things
and colors, so that nothing can be answered without reading. Days go by the week, ranks from the first.

Everything is a function of `(WorldConfig, seed)`.
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
class WorldConfig:
    """listed: fewest and most rooms, and places, of a text. hops: fewest and most sentences that lead from a
    thing to a color. paths: things that can be asked for so. chatter: sentences that say nothing."""

    listed: tuple[int, int] = (3, 6)
    hops: tuple[int, int] = (2, 4)
    paths: int = 3
    chatter: int = 24


@dataclass(frozen=True)
class Document:
    """A text and what it says: what is in each room, on each day and at each rank, all in their order; the colors of
    places, `now` and `before`; and `paths` from a thing to a color, both included."""

    text: str
    rooms: Mapping[str, str]
    days: Mapping[str, str]
    ranks: Mapping[str, str]
    now: Mapping[str, str]
    before: Mapping[str, str]
    paths: tuple[tuple[str, ...], ...]

    @property
    def colors(self) -> tuple[str, ...]:
        """The colors that paths end in."""
        return tuple(path[-1] for path in self.paths)


def documents(config: WorldConfig, seed: int | str) -> Iterator[Document]:
    """Texts without end; the same `(config, seed)` gives the same texts."""
    rng = random.Random(f"longrl-demo-multitask-{seed}")
    while True:
        yield _document(rng, config)


def _document(rng: random.Random, config: WorldConfig) -> Document:
    things, colors = iter(rng.sample(KEYS, len(KEYS))), iter(rng.sample(VALUES, len(VALUES)))
    drawn, places = (_some(rng, names, config) for names in (ROOMS, PLACES))
    rooms, days, ranks = (dict(zip(names, things, strict=False)) for names in (drawn, DAYS, RANKS))
    now, before = (dict(zip(places, colors, strict=False)) for _ in range(2))
    paths = tuple(
        (*(next(things) for _ in range(rng.randint(*config.hops))), next(colors)) for _ in range(config.paths)
    )
    said = [f"{name} {thing} ." for facts in (rooms, days, ranks) for name, thing in facts.items()]
    said += [f"{place} is {color} ." for place, color in now.items()]
    said += [f"{place} was {color} ." for place, color in before.items()]
    said += [f"{one} {other} ." for path in paths for one, other in itertools.pairwise(path)]
    said += [chatter(rng) for _ in range(config.chatter)]
    rng.shuffle(said)
    return Document(" ".join(said), rooms, days, ranks, now, before, paths)


def _some(rng: random.Random, names: tuple[str, ...], config: WorldConfig) -> tuple[str, ...]:
    """Some of the names, in their order."""
    drawn = set(rng.sample(names, rng.randint(*config.listed)))
    return tuple(name for name in names if name in drawn)
