"""A prompt of exactly the wanted length: the question's passages among random others, in random order, with what is
hidden between their sentences, chains or needles.

Lengths are sums of parts that were counted before (`lengths.py`), so composing costs a small part of what tokenising
the prompt would. Whether sums are right for a tokenizer is found out at the start, on whole prompts, and looked at
again now and then; where they are not, every prompt is counted whole and composed again until it fits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.rewards.options import Options, choice, number

from data_gen.keychain import prompts
from data_gen.keychain.chain_text import FewQuestions, Hidden, Hider
from data_gen.keychain.chains import ChainOptions
from data_gen.keychain.lengths import Lengths
from data_gen.keychain.passage_filler import Filler, NothingFits, holds_answer, holds_any, join
from data_gen.keychain.passage_pool import Haystack
from data_gen.text import derive_seed

SLACK = 0.01
"""A prompt may be this share of its budget too short, and never too long."""
PROBES, PROBE_TOKENS, PROBE_LINKS = 16, 8192, 20
CHECK_EVERY = 100
MOST_HIDDEN = 0.75
"""Of the budget, what is hidden may take."""
Counting = Literal["auto", "sums", "whole"]


@dataclass(frozen=True)
class ComposeOptions(Options):
    """max_prompt_tokens: the length of every prompt, as the model sees it. exclude_answers: leave out passages that
    hold an answer to the question, other than its own. counting: by sums, by counting each prompt whole (slow), or
    auto: sums if they are right for the tokenizer."""

    max_prompt_tokens: int = 16384
    exclude_answers: bool = True
    counting: Counting = "auto"

    def __post_init__(self) -> None:
        number("compose.max_prompt_tokens", self.max_prompt_tokens, 1024, whole=True)
        choice("compose.counting", self.counting, Counting)


@dataclass(frozen=True)
class Asked:
    """A question to compose a prompt for. `own`: its passages' numbers in the haystack; `gold`: those that answer
    it."""

    id: str
    question: str
    answers: tuple[str, ...] = ()
    own: tuple[int, ...] = ()
    gold: tuple[int, ...] = ()


@dataclass(frozen=True)
class Composed:
    """A prompt and its length; how many passages it has, and where among them (from 0) the gold ones stand; the keys of
    the true chain, if there is one, or that are asked for."""

    text: str
    tokens: int
    passages: int
    gold_at: tuple[int, ...]
    keys: tuple[str, ...] = ()


class ComposeError(ValueError):
    """A prompt of the wanted length cannot be made; the message says why and what to change."""


class Unfillable(ComposeError):
    """This question's prompt cannot be made, and others can; `reason` is one to count it by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class Composer:
    """Makes prompts over a haystack, every choice a function of the seed and the question's id.

    Args:
        haystack: where passages are from.
        counter: counts whole prompts.
        chains: None when no question will be hidden.
        others: questions that false chains end in, of any samples.
        seed: of every choice.
        sample: makes one of what prompts of `retrieval` will hide, to find out whether sums are right for it.

    Raises ComposeError when the haystack is too small for prompts of this length, or what is hidden too much.
    """

    def __init__(
        self,
        haystack: Haystack,
        counter: PromptCounter,
        options: ComposeOptions,
        chains: ChainOptions | None,
        others: Sequence[str],
        seed: int,
        sample: Callable[[random.Random], Hidden] | None = None,
    ):
        budget = options.max_prompt_tokens
        if haystack.total_tokens < 2 * budget:
            raise ComposeError(
                f"the haystack has {haystack.total_tokens:,} tokens in {len(haystack):,} passages, too few to fill "
                f"prompts of {budget:,} at random; give more files, or lower compose.max_prompt_tokens"
            )
        self.options, self.seed, self.sample = options, seed, sample
        self.lengths = Lengths(counter)
        self.filler = Filler(haystack, self.lengths)
        self.hider = Hider(chains, others, self.lengths, budget, seed) if chains else None
        self.by_sums = options.counting == "sums" or (options.counting == "auto" and self._sums_are_right())

    def keychain(self, asked: Asked) -> Composed:
        """A prompt in which a chain leads to the question. Raises Unfillable, ComposeError."""
        draw = random.Random(derive_seed(self.seed, "keychain", asked.id))
        return self._exact(asked, self._hide(asked.question, self.options.max_prompt_tokens, draw), draw)

    def plain(self, asked: Asked) -> Composed:
        """A prompt that asks the question openly. Raises Unfillable."""
        draw = random.Random(derive_seed(self.seed, "plain", asked.id))
        return self._exact(asked, Hidden(prompts.plain_question(asked.question), [], ()), draw)

    def retrieval(self, name: str, hidden: Hidden) -> Composed:
        """A prompt with needles to be found, and with no question's own passages. Raises Unfillable, ComposeError."""
        draw = random.Random(derive_seed(self.seed, "retrieval", name))
        return self._exact(Asked(name, ""), self._leave_room(hidden, self.options.max_prompt_tokens), draw)

    def _hide(self, question: str, budget: int, draw: random.Random) -> Hidden:
        assert self.hider is not None
        try:
            hidden = self.hider.hide(question, budget, draw)
        except FewQuestions as error:
            raise ComposeError(str(error)) from error
        if self.lengths.count([question])[0] > budget // 8:
            raise Unfillable("too_long", "the question alone is longer than an eighth of the prompt")
        return self._leave_room(hidden, budget)

    def _leave_room(self, hidden: Hidden, budget: int) -> Hidden:
        """What is hidden. Raises ComposeError when it leaves too little room for text."""
        tokens = sum(link.tokens for link in hidden.links)
        if tokens > MOST_HIDDEN * budget:
            chains = "chains.per_1k_tokens or chains.hops, or set chains.identifiers=hex8"
            raise ComposeError(
                f"the {len(hidden.links)} {'pairs' if self.hider else 'needles'} of a prompt take {tokens} of its "
                f"{budget} tokens, which leaves no text to hide them in; lower "
                f"{chains if self.hider else 'retrieval.keys and retrieval.values'}"
            )
        return hidden

    def _sums_are_right(self) -> bool:
        """Whether sums agree with counting whole prompts, on prompts that are made to find out."""
        draw = random.Random(derive_seed(self.seed, "probe"))
        budget = min(self.options.max_prompt_tokens, PROBE_TOKENS)
        for probe in range(PROBES):
            made = self._fill(Asked("(probe)", ""), self._probe(probe, budget, draw), draw, budget)
            if made.tokens != self.lengths.prompt(made.text):
                return False
        return True

    def _probe(self, probe: int, budget: int, draw: random.Random) -> Hidden:
        """Something of the kind that prompts will hide."""
        if self.sample is not None:
            hidden = self._leave_room(self.sample(draw), self.options.max_prompt_tokens)
            return hidden._replace(links=hidden.links[:PROBE_LINKS])
        if self.hider is not None:
            return self._hide(draw.choice(self.hider.others) if self.hider.others else "Who was it?", budget, draw)
        return Hidden(prompts.plain_question(f"Who was number {probe}?"), [], ())

    def _exact(self, asked: Asked, hidden: Hidden, draw: random.Random) -> Composed:
        """A prompt within the budget, its length known to be right."""
        budget = target = self.options.max_prompt_tokens
        for _ in range(10):
            made = self._fill(asked, hidden, draw, target)
            if self.by_sums and derive_seed(self.seed, "check", asked.id) % CHECK_EVERY:
                return made
            tokens = self.lengths.prompt(made.text)
            if self.by_sums and tokens != made.tokens:
                raise ComposeError(
                    f"{asked.id}: the prompt has {tokens} tokens, by sums {made.tokens}: sums are not right "
                    "for this tokenizer; set compose.counting=whole and make the stage anew"
                )
            if (1 - SLACK) * budget <= tokens <= budget:
                return replace(made, tokens=tokens)
            target += budget - tokens
        raise Unfillable("no_filling", f"no prompt of {budget} tokens found in ten tries")

    def _fill(self, asked: Asked, hidden: Hidden, draw: random.Random, budget: int) -> Composed:
        """A prompt of at most `budget` tokens by sums, and at most SLACK under it."""
        fixed = self.lengths.prompt(prompts.OPENING + hidden.task) + sum(link.tokens for link in hidden.links)
        own = set(asked.own)
        needed = fixed + sum(int(self.filler.haystack.tokens[n]) for n in own) + self.lengths.headings(len(own))
        if needed > budget:
            raise Unfillable("too_long", f"its own passages and what is hidden take {needed} of {budget} tokens")
        answers = asked.answers if self.options.exclude_answers else ()
        unfit = holds_any(hidden.alone) if hidden.alone else holds_answer(answers)
        try:
            passages = self.filler.fill(asked.own, budget - fixed, int(SLACK * budget), unfit, draw)
            text = join(passages, [link.text for link in hidden.links], draw)
        except NothingFits as error:
            raise Unfillable("no_filling", str(error)) from error
        tokens = fixed + sum(passage.tokens for passage in passages) + self.lengths.headings(len(passages))
        gold_at = tuple(at for at, passage in enumerate(passages) if passage.number in asked.gold)
        return Composed(prompts.OPENING + text + hidden.task, tokens, len(passages), gold_at, hidden.keys)
