"""RULER-QA: RULER's qa_1 and qa_2 as LongRLVR (arXiv 2603.02146) asks them, in chunks that a model must cite.

The documents of a RULER sample are joined as RULER joins them, cut by the splitter of `data_gen.grounding` into chunks,
and shown with this project's training prompt. The gold chunks are known: those that overlap SQuAD's paragraph, or
HotpotQA's supporting sentences. LongRLVR states neither its chunk size nor its prompt, so figures are comparable in
kind, not to the digit.

sampler="official" takes the questions and documents of RULER; 96 of its first 100 questions of qa_1 are about one
article, and the gold document has the same place in every sample of one size. sampler="repaired" spreads questions over
articles, and the gold document can be anywhere.

A length counts RULER's own prompt and answer, as in LongRLVR's files: the chunk tags, the chat template and the answer
need further room.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from verl_longrl.data.prompt import INSTRUCTIONS, grounded_prompt, neutralise_tags

from data_gen.grounding.splitter import Splitter
from recipe.longrl.evaluation.benchmarks.local_files import without_chunks
from recipe.longrl.evaluation.benchmarks.ruler import SEED, SamplerName, check_options, draw_samples
from recipe.longrl.evaluation.benchmarks.ruler_tasks.questions import POOLS, Selection
from recipe.longrl.evaluation.benchmarks.ruler_tasks.token_sums import TokenSums
from recipe.longrl.evaluation.records import Row

LENGTHS = (32768, 65536, 131072)
SAMPLES = 100
CHUNK_TOKENS = 512
MAX_TOKENS = 4096

Span = tuple[int, int]


def ruler_qa_rows(
    *,
    tokenizer: Any,
    lengths: Sequence[int] = LENGTHS,
    samples: int = SAMPLES,
    tasks: Sequence[str] = tuple(POOLS),
    seed: int = SEED,
    sampler: SamplerName = "official",
    chunk_tokens: int = CHUNK_TOKENS,
    instructions: str = INSTRUCTIONS,
    max_tokens: int = MAX_TOKENS,
) -> Iterator[Row]:
    """Rows of both tasks at all lengths.

    Args:
        tokenizer: a transformers fast tokenizer, which counts lengths and chunks.
        lengths: tokens of RULER's prompt and answer together.
        chunk_tokens: tokens of the longest chunk; the default is that of our training data.
        instructions: the end of the prompt; the default is that of our training data.
        max_tokens: the longest response, reasoning included.

    Raises:
        ValueError: an unknown task or sampler, too many samples, or a length without room for a prompt.
    """
    check_options(tasks, tuple(POOLS), sampler, lengths, samples)
    splitter = Splitter(tokenizer.backend_tokenizer, chunk_tokens)
    for length in lengths:
        for task in tasks:
            drawn = draw_samples(task, length, samples, seed, sampler, TokenSums(tokenizer))
            for index, (draft, page, tokens) in enumerate(drawn):
                selection: Selection = draft.selection
                text, gold_spans = joined_documents(selection)
                spans = [(chunk.start, chunk.end) for chunk in splitter.split(text)]
                question = neutralise_tags(selection.question.text.strip())
                messages = tuple(grounded_prompt([text[a:b] for a, b in spans], question, instructions))
                yield Row(
                    id=f"{task}/{length}/{index}",
                    messages=messages,
                    gold=draft.gold,
                    max_tokens=max_tokens,
                    cell=f"{task}/{length}",
                    length=length,
                    cluster=draft.cluster,
                    position=page.position,
                    closed_book=without_chunks(messages),
                    evidence=chunks_that_overlap(spans, gold_spans),
                    meta={
                        **{"task": task, "sampler": sampler, "seed": seed, "ruler_tokens": tokens},
                        **{"question": question, "num_chunks": len(spans), "chunk_tokens": chunk_tokens},
                        **page.meta,
                    },
                )


def joined_documents(selection: Selection) -> tuple[str, list[Span]]:
    """RULER's documents in one text, without chunk tags of their own, and the spans that hold the gold information."""
    parts: list[str] = []
    gold: list[Span] = []
    end = 0
    for number, document in enumerate(selection.documents, 1):
        heading, text = f"Document {number}:\n", selection.pool.documents[document]
        gold += [(end + len(heading) + a, end + len(heading) + b) for a, b in gold_spans(selection, document)]
        parts.append(f"{heading}{text}\n\n")
        end += len(parts[-1])
    return neutralise_tags("".join(parts).removesuffix("\n\n")), gold


def gold_spans(selection: Selection, document: int) -> list[Span]:
    """The spans of a document that hold gold information: supporting sentences of HotpotQA, or SQuAD's paragraph."""
    if not selection.question.facts:
        return [(0, len(selection.pool.documents[document]))] if document in selection.gold() else []
    spans = []
    for place, sentence in selection.question.facts:
        if place == document:
            sentences = selection.pool.sentences[place]
            # The title and a line end are before the sentences.
            begin = len(selection.pool.documents[place]) - sum(map(len, sentences[sentence:]))
            spans.append((begin, begin + len(sentences[sentence])))
    return spans


def chunks_that_overlap(chunks: Sequence[Span], spans: Sequence[Span]) -> tuple[int, ...]:
    """Numbers of the chunks that share a character with any of the spans; chunks are in order."""
    starts, ends = [start for start, _ in chunks], [end for _, end in chunks]
    numbers = {number for start, end in spans for number in range(bisect_right(ends, start), bisect_left(starts, end))}
    return tuple(sorted(numbers))
