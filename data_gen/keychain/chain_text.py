"""Chains as they stand in a prompt: pairs of identifiers and questions as text, each with its length."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_gen.keychain import prompts
from data_gen.keychain.chains import ChainOptions, Order, Pair, Puzzle, identifier, puzzle
from data_gen.keychain.lengths import Lengths
from data_gen.text import derive_seed, words


class Link(NamedTuple):
    """A pair as UTF-8, and its tokens."""

    text: bytes
    tokens: int


class Hidden(NamedTuple):
    """What a prompt hides: the task that names the first key, all pairs in the order in which they will stand in the
    text, and the true chain's keys in the order in which they are followed. `alone`: ASCII texts that no passage may
    hold, in any case."""

    task: str
    links: list[Link]
    keys: tuple[str, ...]
    alone: tuple[str, ...] = ()


class FewQuestions(ValueError):
    """There are fewer questions than false chains need."""


class Hider:
    """Hides questions behind chains.

    Args:
        others: questions that false chains end in, of any samples.
        budget: tokens of the longest prompt, which decides how many identifiers there must be.
        seed: of the identifiers.
    """

    def __init__(self, options: ChainOptions, others: Iterable[str], lengths: Lengths, budget: int, seed: int):
        self.options, self.lengths = options, lengths
        different = list({_key(question): question for question in others}.values())
        self._questions: dict[str, int] = {}
        self._count_questions(different)
        longest = max(64, budget // 64)  # a false question may not take a prompt's room
        self.others = [question for question in different if self._questions[question] <= longest]
        draw = random.Random(derive_seed(seed, "identifiers"))
        pool: dict[str, None] = {}
        while len(pool) < max(4096, 2 * options.identifiers_needed(budget)):
            pool[identifier(draw, options.identifiers)] = None
        self._pool = list(pool)
        self._before, self._between, self._after = lengths.count([' {"', '": "', '"}.'])
        alone = lengths.count([f' {{"{name}"}}.' for name in self._pool])
        self._tokens = [tokens - self._before - self._after for tokens in alone]

    def hide(self, question: str, budget: int, draw: random.Random) -> Hidden:
        """The question behind the chains of a prompt of `budget` tokens. Raises FewQuestions."""
        drawn = puzzle(draw, self.options, self.options.number_of_chains(budget), len(self._pool))
        questions = [question, *self._false(question, drawn.questions - 1, draw)]
        self._count_questions(questions)
        links = [self._link(pair, questions) for pair in ordered(draw, drawn, self.options.order)]
        keys = tuple(self._pool[pair.key] for pair in drawn.true)
        return Hidden(prompts.keychain_question(keys[0]), links, keys)

    def _false(self, true: str, wanted: int, draw: random.Random) -> list[str]:
        """Questions of other samples, all different."""
        if len(self.others) <= wanted:
            raise FewQuestions(
                f"there are {len(self.others)} different questions, and the chains of a prompt end in {wanted + 1} or "
                "less; give more questions, or lower chains.per_1k_tokens"
            )
        found = draw.sample(self.others, wanted + 1)
        return [question for question in found if _key(question) != _key(true)][:wanted]

    def _link(self, pair: Pair, questions: Sequence[str]) -> Link:
        key, tokens = self._pool[pair.key], self._before + self._tokens[pair.key]
        if pair.key2 is not None:
            text = prompts.link(key, self._pool[pair.key2])
            return Link(text.encode(), tokens + self._between + self._tokens[pair.key2] + self._after)
        assert pair.question is not None
        text = prompts.link(key, questions[pair.question])
        return Link(text.encode("utf-8", "replace"), tokens + self._questions[questions[pair.question]])

    def _count_questions(self, questions: Sequence[str]) -> None:
        """Tokens from the end of a key to the end of its pair; in one piece, for a question may begin and end with
        anything."""
        new = [question for question in questions if question not in self._questions]
        rests = [prompts.link("", question)[3:] for question in new]
        self._questions.update(zip(new, self.lengths.count(rests), strict=True))


def ordered(draw: random.Random, drawn: Puzzle, order: Order) -> list[Pair]:
    """All pairs in the order in which they will stand in the text."""
    lines = [drawn.true, *drawn.others]
    places = [number for number, line in enumerate(lines) for _ in line]
    draw.shuffle(places)
    if order == "random":
        lines = [tuple(draw.sample(line, len(line))) for line in lines]
    rest = [iter(reversed(line)) for line in lines]
    return [next(rest[number]) for number in places]


def _key(question: str) -> str:
    """Equal for questions that differ in case, space and punctuation only."""
    return " ".join(words(question))
