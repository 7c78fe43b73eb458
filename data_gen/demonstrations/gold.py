"""Write demonstrations from the gold evidence and the gold answer of grounded rows, without a model.

A demonstration quotes the evidence before it cites and answers:

    The access code of the mill is 7697.</CHUNK_5>
    </think>
    <useful_chunks><CHUNK_5></useful_chunks>
    <answer>7697</answer>

The order matters. To quote is to copy, which a pretrained model can do, and whoever copies a passage to its end finds
the closing tag there, which names the chunk. A demonstration that names the chunk first asks the model to know the
number before it has looked, and does not teach to find it.

Which part of an evidence chunk is quoted: the sentences that the row's payload marks as evidence (`evidence`, texts),
otherwise those that state the answer, otherwise the one that shares the most words with the question.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from verl_longrl.data.demonstrations import Demonstration, find_flaw
from verl_longrl.data.prompt import TAG, ChunkTagError, parse_chunks
from verl_longrl.data.schema import Sample
from verl_longrl.rewards import RewardOptions, resolve
from verl_longrl.rewards.matching.answer_match import gold_answers
from verl_longrl.rewards.tasks.longrlvr import longrlvr

from data_gen.keychain.passage_filler import answer_pattern
from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.text import words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Style = Literal["to-tag", "sentence"]
"""to-tag: a quote runs from the first evidence sentence to the end of its chunk. sentence: the evidence sentences
alone, then the tag."""
_LIST = re.compile(r"\s*[,;]\s*(?:and\s+)?|\s+and\s+")
"""Between the members of a list."""
OMISSION = " ... "
"""Between the evidence and the closing tag, where the text between them is left out."""


@dataclass(frozen=True)
class GoldOptions:
    """How demonstrations are written.

    quote_share: the expected share of the evidence chunks that is quoted and cited, at least one of each row. Below 1
    most demonstrations are incomplete, so that a model learns the form and to find, and what is left is to gather all
    of the evidence. max_quote_tokens: of one chunk's quote. open_think: the response begins with `<think>`, for chat
    templates that do not write it themselves.
    """

    style: Style = "to-tag"
    quote_share: float = 1.0
    max_quote_tokens: int = 96
    open_think: bool = False
    seed: int = 0


@dataclass
class Made:
    """Counts of the rows that were read, by what became of them."""

    written: int = 0
    incomplete: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class Chunk(NamedTuple):
    """An evidence chunk: its number, text, and the span of the evidence sentences in it."""

    number: int
    text: str
    start: int
    end: int
    answers: bool
    """Whether the span states the answer."""


class Unfit(Exception):
    """A row that no demonstration can be written for; the message says why, in words that are counted."""


class GoldWriter:
    """Writes demonstrations. tokenizer: counts the tokens of quotes."""

    def __init__(self, options: GoldOptions, tokenizer: PreTrainedTokenizerFast, rewards: RewardOptions) -> None:
        self.options, self.tokenizer, self.rewards = options, tokenizer, rewards
        self.made = Made()

    def write(self, samples: Iterable[Sample]) -> Iterator[Demonstration]:
        """A demonstration for each row that has one. `made` counts the others by reason."""
        for sample in samples:
            try:
                demonstration, complete = self._write_one(sample)
            except Unfit as why:
                self.made.skipped[str(why)] += 1
                continue
            self.made.written += 1
            self.made.incomplete += not complete
            yield demonstration

    def _write_one(self, sample: Sample) -> tuple[Demonstration, bool]:
        if not _is_grounded(sample):
            raise Unfit("not a grounded question (longrlvr)")
        rng = random.Random(f"{self.options.seed} {sample.index} {sample.question}")
        chunks = evidence_chunks(sample)
        quoted = self._choose(rng, chunks)
        response = self._response(quoted, _shown_answer(gold_answers(sample.ground_truth)[0], quoted, chunks))
        demonstration = Demonstration(sample, response)
        flaw, complete = find_flaw(demonstration.score(self.rewards)), len(quoted) == len(chunks)
        if flaw is not None and (complete or not flaw.startswith(("context ", "answer "))):
            raise Unfit(f"scores less than full marks ({flaw.partition(';')[0]})")
        return demonstration, complete

    def _choose(self, rng: random.Random, chunks: list[Chunk]) -> list[Chunk]:
        """The chunks to quote, in document order, those that state the answer first among equals."""
        # 0.35 of 4 chunks is 1.4: one chunk, and a second one in 40 % of the rows.
        wanted = self.options.quote_share * len(chunks)
        count = max(1, int(wanted) + (rng.random() < wanted % 1))
        order = sorted(rng.sample(chunks, len(chunks)), key=lambda chunk: not chunk.answers)
        return sorted(order[:count])

    def _response(self, chunks: list[Chunk], answer: str) -> str:
        quotes = [f"{self._quote(chunk)}</CHUNK_{chunk.number}>" for chunk in chunks]
        cited = "".join(f"<CHUNK_{chunk.number}>" for chunk in chunks)
        opening = ["<think>"] if self.options.open_think else []
        lines = [*opening, *quotes, "</think>", f"<useful_chunks>{cited}</useful_chunks>", f"<answer>{answer}</answer>"]
        return "\n".join(lines)

    def _quote(self, chunk: Chunk) -> str:
        """The evidence, to the end of the chunk if that is not too long, otherwise with an omission."""
        rest, evidence = chunk.text[chunk.start :], chunk.text[chunk.start : chunk.end]
        if rest.strip() == evidence.strip() or (self.options.style == "to-tag" and self._fits(rest)):
            quote = rest
        else:
            quote = evidence + OMISSION
        if not self._fits(quote):
            raise Unfit(f"the evidence has more than {self.options.max_quote_tokens} tokens")
        return quote

    def _fits(self, text: str) -> bool:
        return len(self.tokenizer.encode(text, add_special_tokens=False)) <= self.options.max_quote_tokens


def _shown_answer(answer: str, quoted: list[Chunk], chunks: list[Chunk]) -> str:
    """The members of a listed answer that the quoted chunks state, where no chunk states all of it; else the answer.

    A demonstration that also gave the other members would teach to guess them.
    """
    members = _LIST.split(answer)
    if len(quoted) == len(chunks) or len(members) == 1 or any(chunk.answers for chunk in chunks):
        return answer
    quotes = " ".join(_spell(chunk.text[chunk.start : chunk.end]) for chunk in quoted)
    return " and ".join(member for member in members if _spell(member) in quotes) or answer


def _is_grounded(sample: Sample) -> bool:
    try:
        return resolve(sample.data_source) is longrlvr and bool(sample.ref_chunks)
    except LookupError:
        return False


def evidence_chunks(sample: Sample) -> list[Chunk]:
    """The evidence chunks of a grounded row in document order, with the sentences to quote. Raises Unfit."""
    contents = [message["content"] for message in sample.prompt if TAG.search(message["content"])]
    if len(contents) != 1:
        raise Unfit("the prompt shows no chunks, or in several messages")
    try:
        texts = parse_chunks(contents[0])
    except ChunkTagError as error:
        raise Unfit("the chunk tags of the prompt are not in order") from error
    numbers = sorted(set(sample.ref_chunks or ()))
    if numbers[-1] >= len(texts):
        raise Unfit("ref_chunks names a chunk that the prompt does not have")
    answer = answer_pattern(gold_answers(sample.ground_truth))
    return [_find_evidence(number, texts[number], sample, answer) for number in numbers]


def _find_evidence(number: int, text: str, sample: Sample, answer: re.Pattern[str] | None) -> Chunk:
    sentences = list(split_sentences(text))
    if not sentences:
        raise Unfit("an evidence chunk is empty")
    held = [span for span in sentences if answer is not None and answer.search(text[slice(*span)].casefold())]
    chosen = [span for span in sentences if _is_marked(text[slice(*span)], sample.payload)] or held
    if not chosen:
        asked = set(words(sample.question))
        chosen = [max(sentences, key=lambda span: len(asked & set(words(text[slice(*span)]))))]
    start, end = chosen[0][0], chosen[-1][1]
    return Chunk(number, text, start, end, any(start <= a < end for a, _ in held))


def split_sentences(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each sentence, without white space around it. A line break ends a sentence, too."""
    cuts = {0, len(text), *(match.start() for match in re.finditer(r"\n", text)), *sentence_ends(text)}
    for a, b in itertools.pairwise(sorted(cuts)):
        if piece := text[a:b].strip():
            start = text.index(piece, a)
            yield start, start + len(piece)


def _is_marked(sentence: str, payload: dict[str, Any]) -> bool:
    """Whether the row marks a sentence as evidence: it is a part of a marked text, or has one in it, word for word.

    A marked text may have several sentences, and the end of a chunk may divide it.
    """
    marked, spelled = payload.get("evidence"), _spell(sentence)
    pieces = map(_spell, filter(lambda piece: isinstance(piece, str), marked if isinstance(marked, list) else []))
    return any(spelled in piece or piece in spelled for piece in pieces if piece.strip() and spelled.strip())


def _spell(text: str) -> str:
    """The words of a text between single spaces, so that words are found whole."""
    return f" {' '.join(words(text))} "
