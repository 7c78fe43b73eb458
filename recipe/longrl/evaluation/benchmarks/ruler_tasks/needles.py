"""niah: find the values of keys hidden in noise, essays or lines of other keys.

Templates are the released ones (nvidia-long-context-eval 26.3, data/synthetic/constants.py, Apache-2.0).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from recipe.longrl.evaluation.benchmarks.ruler_tasks import pools
from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Draft, Page, Sampler, pieces_of

MAX_TOKENS = 128
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
DEPTHS = tuple(round(100 * place / 39) for place in range(40))
"""Per cents of the essay at which the released generator hides needles; none is halfway between two integers."""
SHORT = 4096
"""Below this length the released generator adds noise and lines five at a time."""

_PROMPT = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the {kind} afterwards.\n",
    "\nWhat are all the special magic {kind} for {query} mentioned in the provided text?",
    " The special magic {kind} for {query} mentioned in the provided text are",
)
_ONE_ANSWER = (
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the {kind} afterwards.\n",
    "\nWhat is the special magic {kind} for {query} mentioned in the provided text?",
    " The special magic {kind} for {query} mentioned in the provided text is",
)

Kind = Literal["words", "numbers", "uuids"]


class NiahTask(NamedTuple):
    """One of RULER's eight retrieval tasks."""

    haystack: Literal["noise", "essay", "lines"]
    key_kind: Kind = "words"
    value_kind: Kind = "numbers"
    keys: int = 1
    values: int = 1
    """Values of each key."""
    queries: int = 1

    def step(self, length: int) -> int:
        """Words or lines that the released generator adds at a time."""
        if self.haystack == "essay":
            return 500
        return 25 if length >= SHORT else 5


TASKS = {
    "niah_single_1": NiahTask("noise"),
    "niah_single_2": NiahTask("essay"),
    "niah_single_3": NiahTask("essay", value_kind="uuids"),
    "niah_multikey_1": NiahTask("essay", keys=4),
    "niah_multikey_2": NiahTask("lines"),
    "niah_multikey_3": NiahTask("lines", key_kind="uuids", value_kind="uuids"),
    "niah_multivalue": NiahTask("essay", values=4),
    "niah_multiquery": NiahTask("essay", keys=4, queries=4),
}


class Needle(NamedTuple):
    """One of the facts: a key and one of its values."""

    kind: str
    key: str
    value: str

    def parts(self) -> tuple[str, str, str]:
        """The sentence as pieces; only the last two change."""
        return f"One of the special magic {self.kind} for", f" {self.key} is:", f" {self.value}."

    def __str__(self) -> str:
        return "".join(self.parts())


class OfficialNiah(Sampler):
    """Draws as the released generator does: one stream of random numbers for all samples, needles always shuffled by
    the same permutation, keys and distractors not checked for equality."""

    def __init__(self, task: NiahTask, length: int, seed: int):
        self.task, self.step = task, task.step(length)
        self._seed, self._random = seed, random.Random(seed)

    def draw(self, size: int, index: int) -> Draft:
        task, generator = self.task, self._random
        facts = []
        for _ in range(task.keys):
            key = draw_name(generator, task.key_kind)
            facts += [Needle(task.value_kind, key, draw_name(generator, task.value_kind)) for _ in range(task.values)]
        needles = list(facts)
        random.Random(self._seed).shuffle(needles)
        lines, places = self._lines(size), self._places(size, len(needles))
        queried = generator.sample(range(task.keys), task.queries)
        asked = [fact for key in queried for fact in facts[key * task.values : (key + 1) * task.values]]
        keys = [fact.key for fact in asked[:: task.values]]
        if task.haystack == "essay":
            return _essay_draft(task, keys, asked, needles, size, partial(_at_depths, places))
        return _lines_draft(task, keys, asked, _inserted(lines, places, needles))

    def _places(self, size: int, count: int) -> list[int]:
        """Depths in an essay in per cent, which rise, or places among lines, which fall."""
        if self.task.haystack == "essay":
            return sorted(self._random.sample(DEPTHS, count))
        return sorted(self._random.sample(range(size), count), reverse=True)

    def _lines(self, size: int) -> list[Needle] | list[str]:
        task, generator = self.task, self._random
        if task.haystack == "noise":
            return [NOISE] * size
        if task.haystack == "essay":
            return []
        kinds = (task.key_kind, task.value_kind)
        return [Needle(task.value_kind, *(draw_name(generator, kind) for kind in kinds)) for _ in range(size)]


class RepairedNiah(Sampler):
    """Draws each sample on its own: all keys and values distinct, needles anywhere, in any order."""

    def __init__(self, task: NiahTask, name: str):
        self.task, self.step, self._name = task, 10 if task.haystack == "essay" else 1, name

    def draw(self, size: int, index: int) -> Draft:
        task, generator = self.task, random.Random(f"{self._name}/{index}")
        others = size if task.haystack == "lines" else 0
        keys = _distinct(generator, task.key_kind, task.keys + others)
        values = iter(_distinct(generator, task.value_kind, task.keys * task.values + others))
        facts = [Needle(task.value_kind, key, next(values)) for key in keys[: task.keys] for _ in range(task.values)]
        queried = generator.sample(keys[: task.keys], task.queries)
        asked = [fact for key in queried for fact in facts if fact.key == key]
        needles = generator.sample(facts, len(facts))
        shares = sorted(generator.random() for _ in needles)
        if task.haystack == "essay":
            return _essay_draft(task, queried, asked, needles, size, partial(_at_shares, shares))
        lines: list[Needle] | list[str] = [NOISE] * size
        if task.haystack == "lines":
            lines = [Needle(task.value_kind, key, next(values)) for key in keys[task.keys :]]
        places = [int(share * (size + 1)) for share in reversed(shares)]
        return _lines_draft(task, queried, asked, _inserted(lines, places, needles[::-1]))


def draw_name(generator: random.Random, kind: Kind) -> str:
    """A random key or value."""
    if kind == "words":
        return generator.choice(pools.key_words())
    if kind == "numbers":
        return str(generator.randint(10**6, 10**7 - 1))
    return str(uuid.UUID(int=generator.getrandbits(128), version=4))


def _distinct(generator: random.Random, kind: Kind, count: int) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < count:
        names[draw_name(generator, kind)] = None
    return list(names)


def _at_depths(depths: Sequence[int], sentences: int) -> list[int]:
    return [int(sentences * (depth / 100)) for depth in depths]


def _at_shares(shares: Sequence[float], sentences: int) -> list[int]:
    return [int(share * (sentences + 1)) for share in shares]


def _inserted(lines: Sequence[Needle | str], places: Sequence[int], needles: Sequence[Needle]) -> list[Needle | str]:
    """The lines with each needle inserted before its place; places fall."""
    shown = list(lines)
    for place, needle in zip(places, needles, strict=True):
        shown.insert(place, needle)
    return shown


def _wording(task: NiahTask, keys: Sequence[str]) -> tuple[str, str, str]:
    """Beginning, end and answer prefix of the prompt."""
    one = task.queries * task.values == 1
    query = f"{', '.join(keys[:-1])}, and {keys[-1]}" if len(keys) > 1 else keys[0]
    kind = task.value_kind[:-1] if one else task.value_kind
    begin, end, prefix = (text.format(kind=kind, query=query) for text in (_ONE_ANSWER if one else _PROMPT))
    return begin, end, prefix


def _draft(task: NiahTask, keys: Sequence[str], asked: Sequence[Needle], render: Callable[[str, str], Page]) -> Draft:
    begin, end, prefix = _wording(task, keys)
    gold = [fact.value for fact in asked]
    return Draft(gold, prefix, partial(render, begin, end), probe=" ".join(gold))


def _lines_draft(task: NiahTask, keys: list[str], asked: list[Needle], lines: list[Needle | str]) -> Draft:
    def render(begin: str, end: str) -> Page:
        pieces = [begin]
        for line in lines:
            first, *others = line.parts() if isinstance(line, Needle) else (line,)
            pieces += [first, *others]
            pieces[-1] += "\n"
        pieces[-1] = pieces[-1].removesuffix("\n") + end
        return Page(pieces, _mean_depth([lines.index(fact) for fact in asked], len(lines) - 1))

    return _draft(task, keys, asked, render)


def _essay_draft(
    task: NiahTask,
    keys: list[str],
    asked: list[Needle],
    needles: list[Needle],
    words: int,
    place: Callable[[int], list[int]],
) -> Draft:
    def render(begin: str, end: str) -> Page:
        sentences = pools.essays().sentences(words)
        places = place(len(sentences))
        elements: list[str] = []
        last = 0
        for position, needle in zip(places, needles, strict=True):
            # An empty run of sentences leaves two spaces, as in the released prompts.
            elements += [*(sentences[last:position] or [""]), str(needle)]
            last = position
        elements += sentences[last:] or [""]
        depth = _mean_depth([places[needles.index(fact)] for fact in asked], len(sentences))
        repeated = words > pools.essays().distinct_words
        return Page(pieces_of(begin, elements, " ", end), depth, {"haystack_repeated": True} if repeated else {})

    return _draft(task, keys, asked, render)


def _mean_depth(places: Iterable[int], last: int) -> float:
    values = list(places)
    return sum(values) / (len(values) * max(last, 1))
