"""Fill a prompt with random passages around a question's own, and insert links between their sentences.

Passages are drawn at random, whatever the question. The room that remains at the end is filled by a passage of just
that length, or by one that is cut at the end of a sentence. The order is drawn anew for every prompt, so the positions
of gold passages are uniform.
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
from data_gen.keychain.lengths import PartLengths
from data_gen.keychain.passage_pool import ENDING, Haystack
from data_gen.text import words

_UBIQUITOUS = FUNCTION_WORDS | {"yes", "no", "true", "false"}
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""A character of a script without spaces between words (Chinese, Japanese)."""
_SYMBOL = re.compile(r"\w[+#*/=<>^&@%$€£]|[+#*/=<>^&@%$€£]\w")
"""A symbol beside a letter or digit, as in C++ or 3%."""
_MAX_MISSES, _MAX_TRIES = 20, 50
_BYTES_PER_TOKEN = 16
"""An upper bound on the average bytes of a token, even in text with long words."""

ContainsForbidden = Callable[[bytes], bool]
"""Whether a passage, as UTF-8, contains a text that must not be in the prompt."""


class PromptPassage(NamedTuple):
    """A passage in a prompt: its UTF-8 text, the byte positions of its sentence ends, its tokens without the headings,
    its number in the haystack (-1 if it is cut short), and [start, end, tokens] of its chunks in bytes, each of which
    has a heading (none: the passage is not divided, and has one)."""

    text: bytes
    ends: Sequence[int]
    tokens: int
    number: int
    chunks: Sequence[tuple[int, int, int]] = ()

    @property
    def headings(self) -> int:
        return max(len(self.chunks), 1)


class NothingFits(ValueError):
    """The haystack has no passage for the remaining room."""


class PassageFiller:
    """Fills prompts from a haystack."""

    def __init__(self, haystack: Haystack, lengths: PartLengths):
        self.haystack, self.lengths = haystack, lengths

    def passage(self, number: int) -> PromptPassage:
        """A passage of the haystack."""
        haystack = self.haystack
        return PromptPassage(haystack.raw(number), haystack.ends(number).tolist(), int(haystack.tokens[number]), number)

    def fill(
        self,
        own: Iterable[int],
        room: int,
        slack: int,
        is_unfit: ContainsForbidden,
        draw: random.Random,
        preferred: Iterable[int] = (),
        excluded: Iterable[int] = (),
    ) -> list[PromptPassage]:
        """The passages `own` and others that are not unfit, in random order. `preferred` are tried before all others,
        `excluded` not at all.

        Together with their headings they have at most `room` tokens, and at least `room - slack`. Raises NothingFits.
        """
        passages = [self.passage(number) for number in dict.fromkeys(own)]
        used = {passage.number for passage in passages} | set(excluded)
        own_passages = len(passages)
        headings = sum(passage.headings for passage in passages)
        # Invariant: `left` is the longest text that one more passage of one heading may have, its heading already paid
        # for.
        left = room - sum(passage.tokens for passage in passages) - self.lengths.headings(headings + 1)

        def add(passage: PromptPassage | None) -> bool:
            nonlocal left, headings
            if passage is None or passage.number in used:
                return False
            tokens = passage.tokens + self._more_headings(headings + 1, passage.headings - 1)
            if tokens > left or is_unfit(passage.text):
                return False
            passages.append(passage)
            used.add(passage.number)
            headings += passage.headings
            left -= tokens + self._more_headings(headings, 1)
            return True

        for number in preferred:
            add(self.passage(number))
        for _ in range(_MAX_TRIES):
            # Add random passages until 20 in a row do not fit; then look for one of the remaining length.
            misses = 0
            while misses < _MAX_MISSES:
                misses = 0 if add(self.passage(draw.randrange(len(self.haystack)))) else misses + 1
            # Without another passage, its heading is not needed either, hence the sum.
            least = left + self._more_headings(headings, 1) - slack
            if least <= 0 or self._add_last(least, left, headings, used, add, draw):
                draw.shuffle(passages)
                return passages
            if len(passages) == own_passages:
                break
            # A dead end: no passage of the remaining length is left. Take the last one out again and retry with the
            # larger room. It stays in `used`, so it is not drawn a second time.
            last = passages.pop()
            left += last.tokens + self._more_headings(headings - last.headings + 1, last.headings)
            headings -= last.headings
        raise NothingFits(f"no passage fits the last {left} tokens")

    def _add_last(
        self,
        least: int,
        most: int,
        headings: int,
        used: set[int],
        add: Callable[[PromptPassage | None], bool],
        draw: random.Random,
    ) -> bool:
        """Add a passage of `least` to `most` tokens, whole or cut; whether there was one."""
        if any(add(self.passage(number)) for number in _draw_some(draw, self.haystack.of_length(least, most))):
            return True
        longer = _draw_some(draw, self.haystack.of_length(most + 1, 2**31 - 2))
        return any(add(self._cut(number, least, most, headings)) for number in longer if number not in used)

    def _more_headings(self, have: int, more: int) -> int:
        """Tokens of `more` headings after the first `have`."""
        return self.lengths.headings(have + more) - self.lengths.headings(have)

    def _cut(self, number: int, least: int, most: int, headings: int) -> PromptPassage | None:
        """The first sentences of a passage, if some number of them has `least` to `most` tokens. `headings`: those of
        the prompt so far."""
        text, ends = self.haystack.raw(number), self.haystack.ends(number).tolist()
        # Only beginnings that can be short enough are tokenised: a long passage is not tokenised to its end.
        ends = [end for end in ends if end <= _BYTES_PER_TOKEN * most]
        counts = self.lengths.count([text[:end].decode("utf-8", "replace") + ENDING for end in ends])
        for at, count in enumerate(counts):
            if least <= count <= most:
                return PromptPassage(text[: ends[at]], ends[:at], count, -1)
        return None


def join_passages(passages: Sequence[PromptPassage], links: Sequence[bytes], draw: random.Random) -> str:
    """Passages under their headings, with the links, in their order, at random sentence ends.

    Raises NothingFits when there are links but no sentence ends.
    """
    places = [(at, end) for at, passage in enumerate(passages) for end in passage.ends]
    if len(links) <= len(places):
        chosen = draw.sample(range(len(places)), len(links))
    elif places:
        # More links than sentence ends: some places get several links.
        chosen = draw.choices(range(len(places)), k=len(links))
    else:
        raise NothingFits("no passage has two sentences, so there is no place for a link. Fix: give prose as haystack")
    # Passage -> its links, each with the byte position at which it is inserted, ascending.
    links_of: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for place, link in zip(sorted(chosen), links, strict=True):
        at, end = places[place]
        links_of[at].append((end, link))
    pieces: list[bytes] = []
    for at, passage in enumerate(passages):
        pieces.append(prompts.heading(at + 1).encode())
        position = 0
        for end, link in links_of[at]:
            pieces += (passage.text[position:end], link)
            position = end
        pieces += (passage.text[position:], ENDING.encode())
    return b"".join(pieces).decode("utf-8", "replace")


def answer_pattern(answers: Collection[str]) -> re.Pattern[str] | None:
    """A pattern that finds any of the answers as whole words in casefolded text; None if there is nothing to find.

    Answers that occur in almost every text (yes, no, "the", single letters) are not searched for.
    """
    patterns = []
    for answer in answers:
        spelled = answer.casefold().split()
        is_specific = any(len(word) > 1 and word not in _UBIQUITOUS for word in words(answer))
        if is_specific or _UNSPACED.search(answer) or _SYMBOL.search(answer):
            pattern = r"\s+".join(map(re.escape, spelled))
            # In scripts without spaces a word has no visible bounds.
            before = "" if _UNSPACED.match(spelled[0][0]) else r"(?<!\w)"
            after = "" if _UNSPACED.match(spelled[-1][-1]) else r"(?!\w)"
            patterns.append(before + pattern + after)
    return re.compile("|".join(patterns)) if patterns else None


def holds_answer(answers: Collection[str]) -> ContainsForbidden:
    """A test for any of the answers, by `answer_pattern`."""
    pattern = answer_pattern(answers)
    return lambda text: pattern is not None and bool(pattern.search(text.decode("utf-8", "replace").casefold()))


def holds_any(names: Collection[str]) -> ContainsForbidden:
    """A test for any of these ASCII texts, in any case and also inside words; far faster than one pattern of all."""
    lowered = [name.lower().encode() for name in names]
    return lambda text: any(map(text.lower().__contains__, lowered))


def _draw_some(draw: random.Random, numbers: np.ndarray) -> list[int]:
    """At most _MAX_TRIES of `numbers`, in random order."""
    return [int(numbers[i]) for i in draw.sample(range(len(numbers)), min(_MAX_TRIES, len(numbers)))]
