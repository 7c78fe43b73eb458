"""Stage compose: of each document the tasks assigned to it, every answer computed from the very passages that the
prompt shows.

A document is divided into passages; what is over the budget is cut at one of them before anything is computed, so that
no label speaks of text that is not there. Every sample is proven by its own reward (`reward_proof.py`), and one that
is not is left out and counted. Where the text has nothing that an assigned task could ask, another one takes its
place, of those that suit the document.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Message
from verl_longrl.rewards.options import Options, number

from data_gen.export_stage import prompt_counter
from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks import TASKS
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk, TaskSample
from data_gen.multitask.passages import spans
from data_gen.multitask.prompt_window import Windows
from data_gen.multitask.reward_proof import is_proven
from data_gen.multitask.visible_text import VisibleText
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store
from data_gen.text import derive_seed

QUESTION_TOKENS = 256
"""Room that is first left for a question; where it takes more, fewer passages are shown."""
TRIES = 8


@dataclass(frozen=True)
class ComposeOptions(Options):
    """max_prompt_tokens: length limit of a prompt as the model sees it, chat template included. passage_words: least
    length of a passage. min_passages: a prompt that shows fewer is not made. (These hold for written tasks too.) tasks:
    which ones are computed. least_items, most_items: what an answer lists or counts."""

    max_prompt_tokens: int = 65536
    tasks: tuple[str, ...] = tuple(TASKS)
    passage_words: int = 80
    min_passages: int = 12
    least_items: int = 3
    most_items: int = 20

    def __post_init__(self) -> None:
        number("compose.max_prompt_tokens", self.max_prompt_tokens, 1024, whole=True)
        number("compose.passage_words", self.passage_words, 10, whole=True)
        number("compose.min_passages", self.min_passages, 4, whole=True)
        number("compose.least_items", self.least_items, 2, whole=True)
        number("compose.most_items", self.most_items, self.least_items, whole=True)
        if len(set(self.tasks)) < len(self.tasks) or not set(self.tasks) <= set(TASKS):
            raise ValueError(f"compose.tasks = {list(self.tasks)}; expected some of {', '.join(TASKS)}, each once")


class Compose(PartStage):
    """Row: `samples` (see samples.py), maybe none: a model may have written some. The counts say how many of each task
    there are, or why not."""

    name = "compose"
    after = ("ingest", "assign")

    def __init__(self, options: ComposeOptions, tokenizer: str, seed: int):
        self.options, self.tokenizer, self.seed = options, tokenizer, seed

    def wanted(self) -> bool:
        return bool(self.options.tasks)

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, "tokenizer": self.tokenizer, **self.named(self.options)}

    def check(self) -> None:
        prompt_counter(self.tokenizer)

    def open(self, store: Store) -> None:
        self.composer = Composer(self.options, prompt_counter(self.tokenizer), self.seed)

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        for document in documents:
            yield self._row(document["ingest"], document["assign"])

    def _row(self, document: Row, assigned: Row) -> Row:
        tasks = [task for task in assigned["tasks"] if task in self.options.tasks]
        spare = [task for task in assigned["spare"] if task in self.options.tasks]
        passages = passages_of(document["text"], self.options)
        samples, counts = self.composer.samples(document["id"], passages, tasks, spare)
        counts["prompt tokens"] = sum(sample["prompt_tokens"] for sample in samples)
        return {"id": document["id"], "samples": samples, "counts": counts}


class Composer:
    """Makes the samples of documents, each choice a function of the seed, the document's id and the task."""

    def __init__(self, options: ComposeOptions, counter: PromptCounter, seed: int):
        self.options, self.counter, self.seed = options, counter, seed
        self.limits = Limits(options.least_items, options.most_items)

    def samples(
        self, name: str, passages: list[str], tasks: Sequence[str], spare: Sequence[str] = ()
    ) -> tuple[list[Row], Counter[str]]:
        """The samples of a document, and how many of each task, or why none: as many as `tasks`, of these as far as
        the text has something to ask, then of the `spare` ones, then of those again that had something."""
        windows = Windows(passage_tokens(self.counter, passages))
        shown_in = cache(lambda start, end: VisibleText(passages[start:end]))  # most documents are shown whole
        samples: list[Row] = []
        counts: Counter[str] = Counter()
        waiting, round_of = deque(dict.fromkeys([*tasks, *spare])), Counter[str]()
        while waiting and len(samples) < len(tasks):
            task = waiting.popleft()
            seed = derive_seed(self.seed, "task", name, task, round_of[task])
            round_of[task] += 1
            try:
                sample = self._sample(task, windows, shown_in, seed)
                if any(sample["question"] == other["question"] for other in samples):
                    raise NothingToAsk("said_twice")
            except NothingToAsk as reason:
                counts[f"{task}: {reason}"] += 1
                continue  # this task has nothing more to ask of the document
            samples.append(sample)
            counts[task] += 1
            waiting.append(task)
        return samples, counts

    def _sample(self, task: str, windows: Windows, shown_in: Callable[[int, int], VisibleText], seed: int) -> Row:
        """One sample, whose prompt is within the budget. Raises NothingToAsk."""
        room = self.options.max_prompt_tokens - QUESTION_TOKENS
        for _ in range(TRIES):
            start, end = windows.draw(room, random.Random(seed))
            if end - start < self.options.min_passages:
                raise NothingToAsk("no_room")
            shown = shown_in(start, end)
            made = TASKS[task](shown, random.Random(derive_seed(seed, "made")), self.limits)
            tokens = self.counter.count([prompt(shown.passages, made)])[0]
            if tokens > self.options.max_prompt_tokens:
                room = windows.tokens(start, end) - (tokens - self.options.max_prompt_tokens)  # less text
                continue
            if not is_proven(task, made):
                raise NothingToAsk("unscorable")
            kept = {key: value for key, value in made._asdict().items() if key != "neighbour"}
            return {"task": task, **kept, "window": [start, end], "prompt_tokens": tokens}
        raise NothingToAsk("no_room")


def passages_of(text: str, options: ComposeOptions) -> list[str]:
    """The passages of a document."""
    return [text[start:end] for start, end in spans(text, options.passage_words)]


def passage_tokens(counter: PromptCounter, passages: list[str]) -> list[int]:
    """Tokens of each passage as it stands in a prompt, with its number."""
    backend: Any = counter.tokenizer.backend_tokenizer
    texts = [f"{prompts.heading(n)}{passage}\n\n" for n, passage in enumerate(passages, 1)]
    return [len(found) for found in backend.encode_batch_fast(texts, add_special_tokens=False)]


def prompt(shown: list[str], made: TaskSample) -> list[Message]:
    """The prompt that shows these passages and asks this."""
    return prompts.question_messages(shown, made.question, made.answer_as, made.numbered)
