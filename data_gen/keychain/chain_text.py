"""Render chains as text: each pair of identifiers, or of an identifier and a question, with its length in tokens."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_gen.keychain import prompts
from data_gen.keychain.chains import ChainOptions, Order, Pair, Puzzle, draw_identifier, draw_puzzle
from data_gen.keychain.lengths import PartLengths
from data_gen.text import derive_seed, words


class Link(NamedTuple):
    """A sentence to insert, as UTF-8, and its length in tokens: a pair of a chain, or a needle."""

    text: bytes
    tokens: int


class Hidden(NamedTuple):
    """The part of a prompt that is not passages.

    task: the end of the prompt, which names the first key. links: all sentences to insert, in the order in which they
    will appear. keys: those of the true chain, in the order in which they are followed. alone: ASCII texts that no
    passage may contain, whatever their case."""

    task: str
    links: list[Link]
    keys: tuple[str, ...]
    alone: tuple[str, ...] = ()


class FewQuestions(ValueError):
    """There are too few questions for the false chains to end in."""


class Hider:
    """Hides questions behind chains.

    Args:
        others: questions of other samples, for false chains to end in.
        budget: tokens of the longest prompt; more tokens need more identifiers.
        seed: of the identifiers.
    """

    def __init__(self, options: ChainOptions, others: Iterable[str], lengths: PartLengths, budget: int, seed: int):
        self.options, self.lengths = options, lengths
        different = list({_key(question): question for question in others}.values())
        self._questions: dict[str, int] = {}
        self._count_questions(different)
        # A long false question would leave too little of the prompt to the passages.
        longest = max(64, budget // 64)
        self.others = [question for question in different if self._questions[question] <= longest]
        draw = random.Random(derive_seed(seed, "identifiers"))
        pool: dict[str, None] = {}
        while len(pool) < max(4096, 2 * options.identifiers_needed(budget)):
            pool[draw_identifier(draw, options.identifiers)] = None
        self._pool = list(pool)
        # Identifiers begin and end a token, so the length of a pair is the sum of its parts' lengths.
        self._before, self._between, self._after = lengths.count([' {"', '": "', '"}.'])
        alone = lengths.count([f' {{"{name}"}}.' for name in self._pool])
        self._tokens = [tokens - self._before - self._after for tokens in alone]

    def hide(self, question: str, budget: int, draw: random.Random) -> Hidden:
        """The question behind the chains of a prompt of `budget` tokens. Raises FewQuestions."""
        drawn = draw_puzzle(draw, self.options, self.options.number_of_chains(budget), len(self._pool))
        questions = [question, *self._false(question, drawn.questions - 1, draw)]
        self._count_questions(questions)
        links = [self._link(pair, questions) for pair in ordered(draw, drawn, self.options.order)]
        keys = tuple(self._pool[pair.key] for pair in drawn.true)
        return Hidden(prompts.keychain_question(keys[0]), links, keys)

    def _false(self, true: str, count: int, draw: random.Random) -> list[str]:
        """`count` different questions of other samples."""
        if len(self.others) <= count:
            raise FewQuestions(
                f"there are {len(self.others)} different questions, and the chains of a prompt end in up to "
                f"{count + 1}. Fix: add questions, or lower chains.per_1k_tokens"
            )
        # One more than needed, in case the true question is among them.
        drawn = draw.sample(self.others, count + 1)
        return [question for question in drawn if _key(question) != _key(true)][:count]

    def _link(self, pair: Pair, questions: Sequence[str]) -> Link:
        key, tokens = self._pool[pair.key], self._before + self._tokens[pair.key]
        if pair.key2 is not None:
            text = prompts.link(key, self._pool[pair.key2])
            return Link(text.encode(), tokens + self._between + self._tokens[pair.key2] + self._after)
        assert pair.question is not None
        text = prompts.link(key, questions[pair.question])
        return Link(text.encode("utf-8", "replace"), tokens + self._questions[questions[pair.question]])

    def _count_questions(self, questions: Sequence[str]) -> None:
        """Count the tokens from the end of a key to the end of its pair, in one piece because a question may begin and
        end with anything."""
        new = [question for question in questions if question not in self._questions]
        rests = [prompts.link("", question)[3:] for question in new]
        self._questions.update(zip(new, self.lengths.count(rests), strict=True))


def ordered(draw: random.Random, drawn: Puzzle, order: Order) -> list[Pair]:
    """All pairs in the order in which they will appear in the text."""
    chains = [drawn.true, *drawn.others]
    # Which chain each place of the text belongs to: chains are interleaved at random.
    places = [number for number, chain in enumerate(chains) for _ in chain]
    draw.shuffle(places)
    if order == "random":
        chains = [tuple(draw.sample(chain, len(chain))) for chain in chains]
    remaining = [iter(reversed(chain)) for chain in chains]
    return [next(remaining[number]) for number in places]


def _key(question: str) -> str:
    """The same for questions that differ only in case, white space and punctuation."""
    return " ".join(words(question))
