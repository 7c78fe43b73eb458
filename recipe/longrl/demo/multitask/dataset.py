"""The multi-task world as training samples: one task about one text is one row of the project's schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from transformers import PreTrainedTokenizerFast
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Message, Sample

from data_gen.multitask.computed_tasks import ABILITIES, data_source
from recipe.longrl.demo.multitask.world import DAYS, PLACES, RANKS, ROOMS, Document, WorldConfig, documents

QUESTIONS = {
    "retrieval": "color of {} ?",
    "exhaustive": "things of rooms ?",
    "matching": "colors of places ?",
    "ordering": "order of days ?",
    "ranking": "order of ranks ?",
}
"""What is asked, by the task's name; for retrieval {} is where a path starts."""


def question(task: str, path: Sequence[str]) -> str:
    """What is asked, for retrieval of where `path` ends."""
    return QUESTIONS[task].format(path[0])


def facts(task: str, document: Document) -> Mapping[str, str]:
    """What the text says and a list has to hold, in its order."""
    return {
        "exhaustive": document.rooms,
        "matching": document.now,
        "ordering": document.days,
        "ranking": document.ranks,
    }[task]


def gold(task: str, document: Document, path: Sequence[str]) -> str | list[str]:
    """The answer: for retrieval the end of `path`, else a list."""
    return path[-1] if task == "retrieval" else items(facts(task, document))


def items(said: Mapping[str, str]) -> list[str]:
    """Facts as the lines of an answer."""
    return [f"{name} {value}" for name, value in said.items()]


def prompt(document: Document, asked: str) -> list[Message]:
    """The prompt as a chat: text and question."""
    return [{"role": "user", "content": f"{document.text} \n\n {asked}"}]


def listing(asked: str, lines: Sequence[str]) -> str:
    """What is written after `<think>`: what is asked for, and the lines of the answer."""
    about = asked.split()[-2]
    return " \n ".join([f"{about} . </think> [Answer]", *lines])


def bare(path: Sequence[str]) -> str:
    """What is written after `<think>` for retrieval: every step of a path, and its end as the answer."""
    return f"{' '.join(path)} . </think> {path[-1]}"


def frame() -> str:
    """The fixed wording of prompts and responses, for the tokenizer's vocabulary."""
    names = " ".join((*ROOMS, *DAYS, *RANKS, *PLACES))
    asked = " ".join(text.format("-") for text in QUESTIONS.values())
    return f"{names} is was {asked} {listing(QUESTIONS['ordering'], ['-'])}"


def samples(words: PreTrainedTokenizerFast, config: WorldConfig, count: int, split: str, seed: str) -> Iterator[Sample]:
    """`count` samples of each task in turn, one per text."""
    counter = PromptCounter(words)
    tasks = list(QUESTIONS)
    for index, document in enumerate(islice(documents(config, f"{split}-{seed}"), count * len(tasks))):
        task, path = tasks[index % len(tasks)], document.paths[0]
        asked = question(task, path)
        shown = prompt(document, asked)
        yield Sample(
            data_source=data_source(task),
            prompt=shown,
            ground_truth=gold(task, document, path),
            index=index,
            split=split,
            question=asked,
            task=data_source(task),
            ability=ABILITIES[task],
            payload={"document": f"{split}-{seed}-{index}"},
            prompt_tokens=counter.count([shown])[0],
            tokenizer_fingerprint=counter.fingerprint,
        )
