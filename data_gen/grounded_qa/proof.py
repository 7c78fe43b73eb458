"""Prove finished rows from the parquet file alone: what the payload says is compared with what the prompt shows.

For each row: the words of the evidence are in the chunks that are named as evidence, and each of these has some of
them; an answer is in these chunks, and in no other unless the payload lists it; with a tokenizer, the length is right.
Answers that were not looked for (`answer_found` and `leaks` are null) are not looked for here either.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from verl_longrl.data.prompt import parse_chunks
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Sample, read_samples

from data_gen.keychain.exact_length import SLACK
from data_gen.keychain.passage_filler import answer_pattern

BINS = 10
_NOT_WORDS = re.compile(r"\W+")


class UnsoundRow(ValueError):
    """A row that does not keep what it promises; the message names it."""


@dataclass
class Proof:
    """The findings about a file. `positions`: of each evidence chunk, its number, the first and last number that it
    could have, as the chunks of a passage are neighbours, and the chunks of its prompt."""

    rows: int = 0
    evidence_passages: set[str] = field(default_factory=set)
    positions: list[tuple[int, int, int, int]] = field(default_factory=list)
    counted: bool = False

    def chi_square(self) -> tuple[float, float]:
        """Chi-square of the evidence chunks' positions, in tenths of their prompts, and its p-value if positions are
        uniform."""
        from scipy.stats import chi2

        observed, expected = np.zeros(BINS), np.zeros(BINS)
        for position, first, last, chunks in self.positions:
            tenths = np.arange(first, last + 1) * BINS // chunks
            expected += np.bincount(tenths, minlength=BINS) / len(tenths)
            observed[position * BINS // chunks] += 1
        # Prompts of few chunks have no chunk in some of the tenths.
        used = expected > 0
        statistic = float(((observed - expected)[used] ** 2 / expected[used]).sum())
        return statistic, float(chi2.sf(statistic, used.sum() - 1))

    def line(self) -> str:
        """The proof in one line."""
        statistic, p = self.chi_square()
        lengths = "" if self.counted else " (lengths not counted: no --tokenizer)"
        return (
            f"ok, {self.rows} rows, {len(self.positions)} evidence chunks, positions: chi-square {statistic:.1f}, "
            f"p = {p:.3f}{lengths}"
        )


def prove_file(file: Path, counter: PromptCounter | None = None) -> Proof:
    """Prove every row of a file. Raises UnsoundRow, naming the first row that is wrong."""
    proof = Proof(counted=counter is not None)
    for number, sample in enumerate(read_samples(file)):
        problem = next(_problems(sample, counter), None)
        if problem:
            raise UnsoundRow(f"{file}: row {number}: {problem}")
        proof.rows += 1
        proof.evidence_passages |= set(sample.payload["evidence_passages"])
        chunks = sample.num_chunks or 0
        for chunk, (before, of_passage) in zip(sample.ref_chunks or (), sample.payload["in_passage"], strict=True):
            proof.positions.append((chunk, before, chunks - of_passage + before, chunks))
    return proof


def _problems(sample: Sample, counter: PromptCounter | None) -> Iterator[str]:
    payload = sample.payload
    chunks = parse_chunks(sample.prompt[0]["content"])
    gold = list(sample.ref_chunks or ())
    if not gold or [chunks[n] for n in gold] != sample.ref_chunks_text:
        yield f"ref_chunks = {gold}: their texts are not those of the prompt's chunks"
    yield from _problems_of_evidence(payload["evidence"], chunks, gold)
    answers = sample.ground_truth if isinstance(sample.ground_truth, list) else [str(sample.ground_truth)]
    pattern = answer_pattern(answers)
    if payload.get("answer_found") and not _is_supported(answers, pattern, [chunks[n] for n in gold]):
        yield f"none of the answers {answers} is in the evidence chunks {gold}"
    if (leaks := payload.get("leaks")) is not None and pattern:
        allowed = {*gold, *leaks}
        for n, chunk in enumerate(chunks):
            if n not in allowed and pattern.search(chunk.casefold()):
                yield f"one of the answers {answers} is in chunk {n}, which is not evidence"
    yield from _problems_of_size(sample, len(chunks), counter)


def _problems_of_size(sample: Sample, chunks: int, counter: PromptCounter | None) -> Iterator[str]:
    payload, tokens = sample.payload, sample.prompt_tokens or 0
    if chunks != payload.get("max_chunks", chunks):
        yield f"the prompt has {chunks} chunks, not {payload['max_chunks']}"
    most = payload.get("max_tokens", tokens)
    if not (1 - SLACK) * most <= tokens <= most:
        yield f"prompt_tokens = {tokens}: expected at most {most}, and at most {SLACK:.0%} less"
    if counter and (counted := counter.count([sample.prompt])[0]) != tokens:
        yield f"prompt_tokens = {tokens}, but the prompt has {counted}"


def _problems_of_evidence(evidence: Sequence[str], chunks: Sequence[str], gold: Sequence[int]) -> Iterator[str]:
    # Only letters and digits count: chunks lack the white space between them, and the full stop of a sentence may be at
    # the beginning of the next chunk.
    parts = [_NOT_WORDS.sub("", chunks[n]) for n in gold]
    whole, ends = "".join(parts), list(itertools.accumulate(map(len, parts)))
    supported: set[int] = set()
    for text in evidence:
        if not (wording := _NOT_WORDS.sub("", text)):
            continue
        at = whole.find(wording)
        if at < 0:
            yield f"the evidence {text[:80]!r} is not in the evidence chunks {list(gold)}"
        while at >= 0:
            last = at + len(wording)
            supported |= {n for n, end in enumerate(ends) if at < end and last > end - len(parts[n])}
            at = whole.find(wording, at + 1)
    if spare := [gold[n] for n in range(len(gold)) if n not in supported]:
        yield f"the chunks {spare} are named as evidence and have none of it"


def _is_supported(answers: Sequence[str], pattern: re.Pattern[str] | None, chunks: Sequence[str]) -> bool:
    """Whether an answer is in one of the chunks, or is cut in two by the end of one of them."""
    if pattern and any(pattern.search(chunk.casefold()) for chunk in chunks):
        return True
    # White space between chunks is not known, so it is left out everywhere.
    parts = ["".join(chunk.casefold().split()) for chunk in chunks]
    whole, ends = "".join(parts), list(itertools.accumulate(map(len, parts)))
    for answer in answers:
        wording = "".join(answer.casefold().split())
        at = whole.find(wording)
        while at >= 0:
            if any(at < end < at + len(wording) for end in ends):
                return True
            at = whole.find(wording, at + 1)
    return False
