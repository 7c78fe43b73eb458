"""Compose grounded prompts of a given size: a question's passages among others, in random order, in chunks.

The order of passages is drawn anew for every prompt, and so is the chunk with which it begins, so the positions of the
evidence are uniform: a chunk that is the second of four in its passage is anywhere but in the first place and the last
two. The chunks of a passage stay together, in their order; only one that is not the question's own may
begin at the end of a prompt and end at its beginning. Lengths are sums of parts where these are exact (see
`chunk_pool.py`), which is tested with the tokenizer in use, at the start and with every hundredth prompt.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic.dataclasses import dataclass as option_group
from verl_longrl.data.prompt import INSTRUCTIONS, grounded_prompt
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.options import Options

from data_gen.grounded_qa.chunk_pool import ChunkFiller, ChunkLengths, ChunkPool, CountedByNumber, Unit
from data_gen.keychain.exact_length import (
    SLACK,
    ComposeError,
    Counting,
    Unfillable,
    compose_exactly,
    is_checked,
)
from data_gen.keychain.passage_filler import NothingFits, PromptPassage, holds_answer
from data_gen.text import derive_seed

PROBES, PROBE_TOKENS = 8, 8192


@option_group(frozen=True)
class GroundedComposeOptions(Options):
    """Options of prompts and of what makes a question fit for one."""

    leaks: Literal["drop", "leave_out", "label", "allow"] = "drop"
    """A question with an answer in its own passages outside of the evidence: drop it; leave these passages out, and
    drop it only if they have evidence too; show them, and label the chunks in its payload; or show them without a
    label. (Passages of other questions that have an answer are never drawn.)"""
    unsupported: Literal["drop", "keep"] = "drop"
    """A question without any of its answers in the evidence, letter for letter: drop or keep it. Answers such as yes,
    and those of comparisons, are not looked for."""
    instructions: str = INSTRUCTIONS
    """The end of every prompt, after the question."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Arguments of the chat template, as in training (data.apply_chat_template_kwargs)."""
    counting: Counting = "auto"
    """sums of parts, whole (each prompt is tokenised: slow) or auto: sums if they are exact for the tokenizer."""


class Size(NamedTuple):
    """The size of a prompt: so many tokens at most, or so many chunks."""

    number: int
    unit: Unit = "tokens"


@dataclass(frozen=True)
class GroundedQuestion:
    """A question to compose a prompt for.

    Attributes:
        own: the numbers in the pool of those of its passages that every prompt shows.
        gold: passage -> numbers of the chunks with evidence.
        leaks: passage -> numbers of other chunks with an answer.
        preferred, excluded: passages to draw before all others, and never.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    own: tuple[int, ...] = ()
    gold: Mapping[int, Sequence[int]] = field(default_factory=dict)
    leaks: Mapping[int, Sequence[int]] = field(default_factory=dict)
    preferred: Sequence[int] = ()
    excluded: Sequence[int] = ()


@dataclass(frozen=True)
class GroundedPrompt:
    """A prompt, its length in tokens, the numbers and texts of its evidence chunks, of each of these its number in its
    passage and the passage's number of chunks, the numbers of chunks with leaks, and the number of passages."""

    text: str
    tokens: int
    num_chunks: int
    ref_chunks: tuple[int, ...]
    ref_chunks_text: tuple[str, ...]
    in_passage: tuple[tuple[int, int], ...]
    leaks: tuple[int, ...]
    passages: int


class GroundedComposer:
    """Composes prompts from a pool; every random choice depends only on the seed, the question's id and the size.

    Raises ComposeError when the pool is too small for the largest of `sizes`.
    """

    def __init__(
        self, folder: Path, counter: PromptCounter, options: GroundedComposeOptions, sizes: Sequence[Size], seed: int
    ):
        self.options, self.seed = options, seed
        self.lengths = ChunkLengths(counter)
        by_number = CountedByNumber(counter)
        self.pool = ChunkPool(folder)
        self.fillers: dict[Unit, ChunkFiller] = {
            "tokens": ChunkFiller(self.pool, self.lengths),
            "chunks": ChunkFiller(ChunkPool(folder, "chunks"), by_number),
        }
        for size in sizes:
            total = self.fillers[size.unit].haystack.total_tokens
            if total < 2 * size.number:
                raise ComposeError(
                    f"fill.{'length' if size.unit == 'tokens' else 'chunks'} = {size.number}: the haystack has only "
                    f"{total:,} {size.unit} in {len(self.pool):,} passages, fewer than two prompts. Fix: give more "
                    "files (--input, or haystack.files), or lower it"
                )
        self.by_sums = options.counting == "sums" or (options.counting == "auto" and self._sums_are_exact())

    def compose(self, question: GroundedQuestion, size: Size) -> GroundedPrompt:
        """A prompt of this size. Raises Unfillable, ComposeError."""
        # A generator for each prompt, so that it does not depend on which prompts were made before.
        draw = random.Random(derive_seed(self.seed, "grounded_qa", question.id, *size))
        if size.unit == "tokens":
            return compose_exactly(
                lambda target: self._fill(question, draw, size, target),
                lambda prompt: self.lengths.prompt(prompt.text),
                size.number,
                by_sums=self.by_sums,
                check=is_checked(self.seed, question.id),
                name=question.id,
            )
        prompt = self._fill(question, draw, size, size.number)
        return prompt if self.by_sums else replace(prompt, tokens=self.lengths.prompt(prompt.text))

    def _sums_are_exact(self) -> bool:
        """Whether the sums of some test prompts equal the lengths of the whole prompts. No, if there is not enough to
        make them of: few prompts are quickly counted whole."""
        draw = random.Random(derive_seed(self.seed, "probe"))
        size = Size(min(self.pool.total_tokens // 2, PROBE_TOKENS))
        for probe in range(PROBES):
            try:
                prompt = self._fill(GroundedQuestion("(probe)", f"Who was number {probe}?"), draw, size, size.number)
            except Unfillable:
                return False
            # One difference is enough: the sums of real prompts, which are longer, could be wrong as well.
            if prompt.tokens != self.lengths.prompt(prompt.text):
                return False
        return True

    def _fill(self, question: GroundedQuestion, draw: random.Random, size: Size, target: int) -> GroundedPrompt:
        """A prompt of at most `target` tokens by sums, and at most SLACK of its size below it, or of so many chunks."""
        fixed = self.lengths.fixed(question.question, self.options.instructions)
        filler, in_tokens = self.fillers[size.unit], size.unit == "tokens"
        own = [filler.passage(number) for number in question.own]
        needed = sum(passage.tokens for passage in own)
        needed += filler.lengths.headings(sum(passage.headings for passage in own))
        room = target - fixed if in_tokens else target
        if needed > room:
            raise Unfillable("too_long", f"its own passages take {needed} of the {room} {size.unit} for passages")
        try:
            passages = filler.fill(
                question.own,
                room,
                int(SLACK * size.number) if in_tokens else 0,
                holds_answer(question.answers),
                draw,
                question.preferred,
                question.excluded,
            )
        except NothingFits as error:
            raise Unfillable("no_filling", str(error)) from error
        chunks = [(passage, number) for passage in passages for number in range(len(passage.chunks))]
        chunks = _rotate(chunks, set(question.own), draw)
        texts: list[str] = []
        tokens, gold, leaks, in_passage = fixed, [], [], []
        for passage, number in chunks:
            if number in question.gold.get(passage.number, ()):
                gold.append(len(texts))
                in_passage.append((number, len(passage.chunks)))
            elif number in question.leaks.get(passage.number, ()):
                leaks.append(len(texts))
            start, end, count = passage.chunks[number]
            texts.append(passage.text[start:end].decode("utf-8", "replace"))
            tokens += count
        return GroundedPrompt(
            text=grounded_prompt(texts, question.question, self.options.instructions)[0]["content"],
            tokens=tokens + self.lengths.headings(len(texts)),
            num_chunks=len(texts),
            ref_chunks=tuple(gold),
            ref_chunks_text=tuple(texts[chunk] for chunk in gold),
            in_passage=tuple(in_passage),
            leaks=tuple(leaks),
            passages=len(passages),
        )


def _rotate(
    chunks: list[tuple[PromptPassage, int]], own: Collection[int], draw: random.Random
) -> list[tuple[PromptPassage, int]]:
    """The chunks, from a random one on to the one before it, without dividing the question's own passages.

    Random order alone would favour both ends, where a passage of one chunk is always possible; within a passage of
    many chunks it is not.
    """
    starts = [at for at, (passage, number) in enumerate(chunks) if number == 0 or passage.number not in own]
    start = draw.choice(starts)
    return chunks[start:] + chunks[:start]
