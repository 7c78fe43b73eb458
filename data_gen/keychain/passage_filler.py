"""Passages around a question's own until a prompt has its length, and pairs between their sentences.

Passages are drawn at random, whatever the question. What room is left at the end is filled by a passage of just that
length, or one that is cut at the end of a sentence. The order is drawn anew for every prompt, so gold passages stand
anywhere, evenly.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS

from data_gen.keychain import prompts
from data_gen.keychain.lengths import Lengths
from data_gen.keychain.passage_pool import ENDING, Haystack
from data_gen.text import words

_EVERYWHERE = FUNCTION_WORDS | {"yes", "no", "true", "false"}
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # scripts that put no space between words
_SYMBOL = re.compile(r"\w[+#*/=<>^&@%$€£]|[+#*/=<>^&@%$€£]\w")
_MISSES, _TRIES = 20, 50
_BYTES_PER_TOKEN = 16
"""More than text has on average, however long its words."""

Holds = Callable[[bytes], bool]
"""Whether a passage, as UTF-8, holds what is looked for."""


class Passage(NamedTuple):
    """A passage in a prompt: UTF-8, where its sentences end, its tokens with heading left out, its number in the
    haystack (-1: cut short)."""

    text: bytes
    ends: Sequence[int]
    tokens: int
    number: int


class NothingFits(ValueError):
    """The haystack has no passage for the room that is left."""


class Filler:
    """Fills prompts from a haystack."""

    def __init__(self, haystack: Haystack, lengths: Lengths):
        self.haystack, self.lengths = haystack, lengths

    def passage(self, number: int) -> Passage:
        """A passage of the haystack."""
        haystack = self.haystack
        return Passage(haystack.raw(number), haystack.ends(number).tolist(), int(haystack.tokens[number]), number)

    def fill(self, own: Iterable[int], room: int, slack: int, unfit: Holds, draw: random.Random) -> list[Passage]:
        """The passages `own`, and others that are not `unfit`, in random order: together, with their headings, at most
        `room` tokens, and at most `slack` less. Raises NothingFits."""
        passages = [self.passage(number) for number in dict.fromkeys(own)]
        taken = {passage.number for passage in passages}
        own_passages = len(passages)
        left = room - sum(passage.tokens for passage in passages) - self.lengths.headings(len(passages) + 1)
        # `left` is what one more passage may have below its heading

        def add(passage: Passage | None) -> bool:
            nonlocal left
            if passage is None or passage.number in taken or passage.tokens > left or unfit(passage.text):
                return False
            passages.append(passage)
            taken.add(passage.number)
            left -= passage.tokens + self._heading(len(passages) + 1)
            return True

        for _ in range(_TRIES):
            misses = 0
            while misses < _MISSES:
                misses = 0 if add(self.passage(draw.randrange(len(self.haystack)))) else misses + 1
            least = left + self._heading(len(passages) + 1) - slack
            if least <= 0 or self._end(least, left, taken, add, draw):
                draw.shuffle(passages)
                return passages
            if len(passages) == own_passages:
                break
            left += passages.pop().tokens + self._heading(len(passages) + 2)  # a dead end: with more room, more fits
        raise NothingFits(f"no passage fits the last {left} tokens")

    def _end(
        self, least: int, most: int, taken: set[int], add: Callable[[Passage | None], bool], draw: random.Random
    ) -> bool:
        """Add a passage of `least` to `most` tokens, whole or cut; whether there was one."""
        if any(add(self.passage(number)) for number in _some(draw, self.haystack.of_length(least, most))):
            return True
        longer = _some(draw, self.haystack.of_length(most + 1, 2**31 - 2))
        return any(add(self._cut(number, least, most)) for number in longer if number not in taken)

    def _heading(self, number: int) -> int:
        return self.lengths.headings(number) - self.lengths.headings(number - 1)

    def _cut(self, number: int, least: int, most: int) -> Passage | None:
        """The first sentences of a passage, where they come to `least` to `most` tokens."""
        text, ends = self.haystack.raw(number), self.haystack.ends(number).tolist()
        ends = [end for end in ends if end <= _BYTES_PER_TOKEN * most]
        counts = self.lengths.count([text[:end].decode("utf-8", "replace") + ENDING for end in ends])
        for at, count in enumerate(counts):
            if least <= count <= most:
                return Passage(text[: ends[at]], ends[:at], count, -1)
        return None


def join(passages: Sequence[Passage], links: Sequence[bytes], draw: random.Random) -> str:
    """Passages under their headings, and links, in their order, at random sentence ends.

    Raises NothingFits when there are links and no sentence ends.
    """
    places = [(at, end) for at, passage in enumerate(passages) for end in passage.ends]
    if len(links) <= len(places):
        spots = draw.sample(range(len(places)), len(links))
    elif places:
        spots = draw.choices(range(len(places)), k=len(links))
    else:
        raise NothingFits("no passage has two sentences, so there is no place to hide anything; give prose as haystack")
    here: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for spot, link in zip(sorted(spots), links, strict=True):
        at, end = places[spot]
        here[at].append((end, link))
    pieces: list[bytes] = []
    for at, passage in enumerate(passages):
        pieces.append(prompts.heading(at + 1).encode())
        position = 0
        for end, link in here[at]:
            pieces += (passage.text[position:end], link)
            position = end
        pieces += (passage.text[position:], ENDING.encode())
    return b"".join(pieces).decode("utf-8", "replace")


def answer_pattern(answers: Collection[str]) -> re.Pattern[str] | None:
    """Finds any of the answers as whole words in casefolded text. Answers that stand everywhere (yes, no, "the", single
    letters) are not looked for. None when there is nothing to look for."""
    wanted = []
    for answer in answers:
        spelled = answer.casefold().split()
        telling = any(len(word) > 1 and word not in _EVERYWHERE for word in words(answer))
        if telling or _UNSPACED.search(answer) or _SYMBOL.search(answer):
            pattern = r"\s+".join(map(re.escape, spelled))
            before = "" if _UNSPACED.match(spelled[0][0]) else r"(?<!\w)"
            after = "" if _UNSPACED.match(spelled[-1][-1]) else r"(?!\w)"
            wanted.append(before + pattern + after)
    return re.compile("|".join(wanted)) if wanted else None


def holds_answer(answers: Collection[str]) -> Holds:
    """Finds any of the answers as `answer_pattern` does."""
    pattern = answer_pattern(answers)
    return lambda text: pattern is not None and bool(pattern.search(text.decode("utf-8", "replace").casefold()))


def holds_any(names: Collection[str]) -> Holds:
    """Finds any of these ASCII texts, in any case, also inside words; far faster than a pattern of them all."""
    wanted = [name.lower().encode() for name in names]
    return lambda text: any(map(text.lower().__contains__, wanted))


def _some(draw: random.Random, numbers: np.ndarray) -> list[int]:
    """A few of `numbers`, in random order."""
    return [int(numbers[i]) for i in draw.sample(range(len(numbers)), min(_TRIES, len(numbers)))]
