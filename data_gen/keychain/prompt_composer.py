"""Compose prompts of a given length: a question's passages among random others, with chains or needles in between.

The length of a prompt is the sum of its parts' lengths, which are counted once (`lengths.py`). So composing takes a
small fraction of the time that tokenising the prompt would take. Sums are not exact for every tokenizer: they are
compared with whole prompts at the start, and with every hundredth prompt later. If they differ, every prompt is counted
whole, and composed again until it fits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge
from pydantic.dataclasses import dataclass as option_group
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.options import Options

from data_gen.keychain import prompts
from data_gen.keychain.chain_text import FewQuestions, Hidden, Hider
from data_gen.keychain.chains import ChainOptions
from data_gen.keychain.exact_length import SLACK, ComposeError, Counting, Unfillable, compose_exactly, is_checked
from data_gen.keychain.lengths import PartLengths
from data_gen.keychain.passage_filler import NothingFits, PassageFiller, holds_answer, holds_any, join_passages
from data_gen.keychain.passage_pool import Haystack
from data_gen.text import derive_seed

PROBES, PROBE_TOKENS, PROBE_LINKS = 16, 8192, 20
"""Prompts on which sums are tested, their length, and the most links in one of them."""
MOST_HIDDEN = 0.75
"""Links may take at most this share of the budget."""


@option_group(frozen=True)
class PromptComposeOptions(Options):
    """Options of prompts, for stages fill and retrieval."""

    max_prompt_tokens: Annotated[int, Ge(1024)] = 16384
    """Length of every prompt in tokens, as the model sees it."""
    exclude_answers: bool = True
    """Leave out passages, other than the question's own, that contain an answer to it."""
    counting: Counting = "auto"
    """sums of parts, whole (each prompt is tokenised: slow) or auto: sums if they are exact for the tokenizer."""


@dataclass(frozen=True)
class PlacedQuestion:
    """A question to compose a prompt for. `own`: the numbers of its passages in the haystack; `gold`: the numbers of
    those that answer it."""

    id: str
    question: str
    answers: tuple[str, ...] = ()
    own: tuple[int, ...] = ()
    gold: tuple[int, ...] = ()


@dataclass(frozen=True)
class ComposedPrompt:
    """A prompt and its length in tokens; the number of its passages and the positions (from 0) of the gold ones among
    them; the keys of the true chain, or the key that a retrieval question names."""

    text: str
    tokens: int
    passages: int
    gold_at: tuple[int, ...]
    keys: tuple[str, ...] = ()

    def row_fields(self, kind: str) -> dict[str, Any]:
        """The fields of a stage's row that describe this prompt, with the counts of its kind."""
        return {
            "prompt": self.text,
            "prompt_tokens": self.tokens,
            "passages": self.passages,
            "gold_at": self.gold_at,
            "keys": self.keys,
            "counts": {f"{kind} prompts": 1, "prompt tokens": self.tokens},
        }


class PromptComposer:
    """Composes prompts from a haystack; every random choice depends only on the seed and the question's id.

    Args:
        haystack: the passages.
        counter: counts whole prompts.
        chains: None if no question will be hidden.
        others: questions at the end of false chains; they may be of any sample.
        seed: seed of every random choice.
        sample: draws needles like those of later calls of `retrieval`, to test whether sums are exact for them.

    Raises ComposeError when the haystack is too small for prompts of this length, or chains or needles are too long.
    """

    def __init__(
        self,
        haystack: Haystack,
        counter: PromptCounter,
        options: PromptComposeOptions,
        chains: ChainOptions | None,
        others: Sequence[str],
        seed: int,
        sample: Callable[[random.Random], Hidden] | None = None,
    ):
        budget = options.max_prompt_tokens
        if haystack.total_tokens < 2 * budget:
            raise ComposeError(
                f"compose.max_prompt_tokens = {budget}: the haystack has only {haystack.total_tokens:,} tokens in "
                f"{len(haystack):,} passages, fewer than two prompts. Fix: give more files, or lower it"
            )
        self.options, self.seed, self.sample = options, seed, sample
        self.lengths = PartLengths(counter)
        self.filler = PassageFiller(haystack, self.lengths)
        self.hider = Hider(chains, others, self.lengths, budget, seed) if chains else None
        # The test prompts need everything that is set above.
        self.by_sums = options.counting == "sums" or (options.counting == "auto" and self._sums_are_exact())

    def keychain(self, question: PlacedQuestion) -> ComposedPrompt:
        """A prompt in which a chain leads to the question. Raises Unfillable, ComposeError."""
        # A generator for each prompt, so that it does not depend on which prompts were made before.
        draw = random.Random(derive_seed(self.seed, "keychain", question.id))
        hidden = self._hide(question.question, self.options.max_prompt_tokens, draw)
        return self._compose_exactly(question, hidden, draw)

    def plain(self, question: PlacedQuestion) -> ComposedPrompt:
        """A prompt that asks the question openly. Raises Unfillable."""
        draw = random.Random(derive_seed(self.seed, "plain", question.id))
        return self._compose_exactly(question, Hidden(prompts.plain_question(question.question), [], ()), draw)

    def retrieval(self, name: str, hidden: Hidden) -> ComposedPrompt:
        """A prompt with needles to be found, in passages of no particular question. Raises Unfillable, ComposeError."""
        draw = random.Random(derive_seed(self.seed, "retrieval", name))
        hidden = self._require_room(hidden, self.options.max_prompt_tokens)
        return self._compose_exactly(PlacedQuestion(name, ""), hidden, draw)

    def _hide(self, question: str, budget: int, draw: random.Random) -> Hidden:
        assert self.hider is not None
        try:
            hidden = self.hider.hide(question, budget, draw)
        except FewQuestions as error:
            raise ComposeError(str(error)) from error
        # The text to search should fill the prompt, not the question.
        if self.lengths.count([question])[0] > budget // 8:
            raise Unfillable("too_long", "the question alone is longer than an eighth of the prompt")
        return self._require_room(hidden, budget)

    def _require_room(self, hidden: Hidden, budget: int) -> Hidden:
        """The same links. Raises ComposeError when they leave too little room for text."""
        tokens = sum(link.tokens for link in hidden.links)
        if tokens > MOST_HIDDEN * budget:
            chains = "chains.per_1k_tokens or chains.hops, or set chains.identifiers=hex8"
            raise ComposeError(
                f"the {len(hidden.links)} {'pairs' if self.hider else 'needles'} of a prompt take {tokens} of its "
                f"{budget} tokens, which leaves too little text to hide them in. Fix: lower "
                f"{chains if self.hider else 'retrieval.keys and retrieval.values'}"
            )
        return hidden

    def _sums_are_exact(self) -> bool:
        """Whether the sums of some test prompts equal the lengths of the whole prompts."""
        draw = random.Random(derive_seed(self.seed, "probe"))
        budget = min(self.options.max_prompt_tokens, PROBE_TOKENS)
        for probe in range(PROBES):
            prompt = self._fill(PlacedQuestion("(probe)", ""), self._probe(probe, budget, draw), draw, budget)
            # One difference is enough: the sums of real prompts, which are longer, could be wrong as well.
            if prompt.tokens != self.lengths.prompt(prompt.text):
                return False
        return True

    def _probe(self, probe: int, budget: int, draw: random.Random) -> Hidden:
        """Links and a task like those that real prompts will have."""
        if self.sample is not None:
            hidden = self._require_room(self.sample(draw), self.options.max_prompt_tokens)
            # A test prompt is short, and real needles might not fit into it.
            return hidden._replace(links=hidden.links[:PROBE_LINKS])
        if self.hider is not None:
            return self._hide(draw.choice(self.hider.others) if self.hider.others else "Who was it?", budget, draw)
        return Hidden(prompts.plain_question(f"Who was number {probe}?"), [], ())

    def _compose_exactly(self, question: PlacedQuestion, hidden: Hidden, draw: random.Random) -> ComposedPrompt:
        """A prompt within the budget whose length is exact."""
        return compose_exactly(
            lambda target: self._fill(question, hidden, draw, target),
            lambda prompt: self.lengths.prompt(prompt.text),
            self.options.max_prompt_tokens,
            by_sums=self.by_sums,
            check=is_checked(self.seed, question.id),
            name=question.id,
        )

    def _fill(self, question: PlacedQuestion, hidden: Hidden, draw: random.Random, budget: int) -> ComposedPrompt:
        """A prompt of at most `budget` tokens by sums, and at most SLACK below it."""
        # All tokens but those of passages and their headings.
        fixed = self.lengths.prompt(prompts.OPENING + hidden.task) + sum(link.tokens for link in hidden.links)
        own = set(question.own)
        needed = fixed + sum(int(self.filler.haystack.tokens[n]) for n in own) + self.lengths.headings(len(own))
        if needed > budget:
            raise Unfillable("too_long", f"its own passages and the links take {needed} of {budget} tokens")
        answers = question.answers if self.options.exclude_answers else ()
        # A retrieval prompt has no answers, and a question's prompt has no such texts.
        is_unfit = holds_any(hidden.alone) if hidden.alone else holds_answer(answers)
        try:
            passages = self.filler.fill(question.own, budget - fixed, int(SLACK * budget), is_unfit, draw)
            text = join_passages(passages, [link.text for link in hidden.links], draw)
        except NothingFits as error:
            raise Unfillable("no_filling", str(error)) from error
        tokens = fixed + sum(passage.tokens for passage in passages) + self.lengths.headings(len(passages))
        gold_at = tuple(at for at, passage in enumerate(passages) if passage.number in question.gold)
        return ComposedPrompt(prompts.OPENING + text + hidden.task, tokens, len(passages), gold_at, hidden.keys)
