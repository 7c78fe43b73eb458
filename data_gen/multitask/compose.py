"""Stage compose: compute samples of the tasks assigned to each document, from the passages that the prompt shows.

A document is divided into passages. If it exceeds the budget, it is cut at a passage before anything is computed, so
that no answer depends on text that the prompt does not show. Every sample is proven by its own reward
(`reward_proof.py`); a sample without proof is left out and counted. If an assigned task finds nothing to ask in the
text, another task that suits the document replaces it.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Ge
from pydantic.dataclasses import dataclass
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Message
from verl_longrl.options import OptionError, Options

from data_gen.config import ConfigError, PipelineConfig
from data_gen.export_stage import prompt_counter
from data_gen.multitask import prompts
from data_gen.multitask.computed_tasks import TASKS
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk, TaskSample
from data_gen.multitask.passages import passage_spans
from data_gen.multitask.prompt_window import Windows
from data_gen.multitask.reward_proof import is_proven
from data_gen.multitask.visible_text import VisibleText
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store
from data_gen.text import derive_seed

QUESTION_TOKENS = 256
"""Room reserved for a question at first; if it needs more, fewer passages are shown."""
TRIES = 8


@dataclass(frozen=True)
class TaskComposeOptions(Options):
    """Options of stage compose. Lengths and passages hold for written tasks too."""

    max_prompt_tokens: Annotated[int, Ge(1024)] = 65536
    """Longest prompt in tokens as the model sees it, chat template included."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """The tasks that are computed."""
    passage_words: Annotated[int, Ge(10)] = 80
    """Shortest passage, in words."""
    min_passages: Annotated[int, Ge(4)] = 12
    """Fewest passages of a prompt."""
    least_items: Annotated[int, Ge(2)] = 3
    """Fewest items that an answer lists or counts."""
    most_items: int = 20
    """Most items that an answer lists or counts."""

    def __post_init__(self) -> None:
        if self.most_items < self.least_items:
            problem = f"expected at least least_items, {self.least_items}"
            raise OptionError("most_items", self.most_items, problem, "raise it, or lower least_items")
        if len(set(self.tasks)) < len(self.tasks) or not set(self.tasks) <= set(TASKS):
            raise OptionError(
                "tasks", self.tasks, f"expected some of {', '.join(TASKS)}, each once", "correct the names"
            )


class ComposeStage(PartStage):
    """Row: `samples` (see samples.py), maybe none, if a model writes all samples. The counts have the number of samples
    of each task, and the reasons for missing ones."""

    name = "compose"
    summary = "compute tasks and their answers from each document."
    blocks: ClassVar = {"compose": TaskComposeOptions}
    after = ("ingest", "assign")

    def __init__(self, options: TaskComposeOptions, tokenizer: str, seed: int):
        self.options, self.tokenizer, self.seed = options, tokenizer, seed

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options = replace(config.block(TaskComposeOptions), tasks=computed_tasks(config))
        return cls(options, config.tokenizer, config.seed)

    @classmethod
    def check_config(cls, config: PipelineConfig) -> None:
        if not computed_tasks(config) and not config.block(WriteOptions).enabled_tasks:
            raise ConfigError("compose.tasks = []: expected tasks, unless write.server names a server that writes them")

    def is_enabled(self) -> bool:
        return bool(self.options.tasks)

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, "tokenizer": self.tokenizer, **self.block_settings(self.options)}

    def check_before_run(self) -> None:
        prompt_counter(self.tokenizer)

    def open(self, store: Store) -> None:
        self.composer = TaskComposer(self.options, prompt_counter(self.tokenizer), self.seed)

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


def computed_tasks(config: PipelineConfig) -> tuple[str, ...]:
    """The tasks whose answers are computed: those of `compose.tasks` that no model writes."""
    written = config.block(WriteOptions).enabled_tasks
    return tuple(task for task in config.block(TaskComposeOptions).tasks if task not in written)


class TaskComposer:
    """Makes samples of documents; every random choice depends only on the seed, the document's id and the task."""

    def __init__(self, options: TaskComposeOptions, counter: PromptCounter, seed: int):
        self.options, self.counter, self.seed = options, counter, seed
        self.limits = Limits(options.least_items, options.most_items)

    def samples(
        self, name: str, passages: list[str], tasks: Sequence[str], spare: Sequence[str] = ()
    ) -> tuple[list[Row], Counter[str]]:
        """As many samples of a document as it has `tasks`, and counts of samples by task and of reasons for missing
        ones. Samples are first of `tasks`; if the text has nothing to ask for one of them, then of the `spare` tasks;
        then again of those that found something."""
        windows = Windows(passage_tokens(self.counter, passages))
        # Cached, because most documents are shown as a whole in every sample.
        visible_text = cache(lambda start, end: VisibleText(passages[start:end]))
        samples: list[Row] = []
        counts: Counter[str] = Counter()
        waiting, round_of = deque(dict.fromkeys([*tasks, *spare])), Counter[str]()
        while waiting and len(samples) < len(tasks):
            task = waiting.popleft()
            seed = derive_seed(self.seed, "task", name, task, round_of[task])
            round_of[task] += 1
            try:
                sample = self._sample(task, windows, visible_text, seed)
                if any(sample["question"] == other["question"] for other in samples):
                    raise NothingToAsk("said_twice")
            except NothingToAsk as reason:
                # The task has nothing more to ask about this document, so it does not wait for another round.
                counts[f"{task}: {reason}"] += 1
                continue
            samples.append(sample)
            counts[task] += 1
            waiting.append(task)
        return samples, counts

    def _sample(self, task: str, windows: Windows, visible_text: Callable[[int, int], VisibleText], seed: int) -> Row:
        """One sample whose prompt is within the budget. Raises NothingToAsk."""
        room = self.options.max_prompt_tokens - QUESTION_TOKENS
        for _ in range(TRIES):
            start, end = windows.draw(room, random.Random(seed))
            if end - start < self.options.min_passages:
                raise NothingToAsk("no_room")
            shown = visible_text(start, end)
            made = TASKS[task](shown, random.Random(derive_seed(seed, "made")), self.limits)
            tokens = self.counter.count([render_prompt(shown.passages, made)])[0]
            if tokens > self.options.max_prompt_tokens:
                # The question is longer than QUESTION_TOKENS. Retry with less text by as much as this one is too long.
                room = windows.tokens(start, end) - (tokens - self.options.max_prompt_tokens)
                continue
            if not is_proven(task, made):
                raise NothingToAsk("unscorable")
            fields = {key: value for key, value in made._asdict().items() if key != "neighbour"}
            return {"task": task, **fields, "window": [start, end], "prompt_tokens": tokens}
        raise NothingToAsk("no_room")


def passages_of(text: str, options: TaskComposeOptions) -> list[str]:
    """The passages of a document."""
    return [text[start:end] for start, end in passage_spans(text, options.passage_words)]


def passage_tokens(counter: PromptCounter, passages: list[str]) -> list[int]:
    """Tokens of each passage as a prompt shows it, with its number."""
    backend: Any = counter.tokenizer.backend_tokenizer
    texts = [f"{prompts.heading(n)}{passage}\n\n" for n, passage in enumerate(passages, 1)]
    return [len(encoding) for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def render_prompt(passages: list[str], made: TaskSample) -> list[Message]:
    """The prompt that shows these passages and asks this question."""
    return prompts.question_messages(passages, made.question, made.answer_as, made.numbered)
