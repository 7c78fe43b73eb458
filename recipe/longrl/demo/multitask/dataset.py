"""The multi-task world as training samples: one task about one text is one row of the project's schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from verl_longrl.data.schema import Message, Sample

from data_gen.multitask.computed_tasks import ABILITIES, data_source
from recipe.longrl.demo.multitask.world import DAYS, PLACES, RANKS, ROOMS, MultitaskDocument, MultitaskWorld, documents

QUESTIONS = {
    "retrieval": "color of {} ?",
    "exhaustive": "things of rooms ?",
    "matching": "colors of places ?",
    "ordering": "order of days ?",
    "ranking": "order of ranks ?",
}
"""Questions by the name of the task; for retrieval, {} is the start of a path."""


def question(task: str, path: Sequence[str]) -> str:
    """The question of a task; for retrieval, it asks for the end of `path`."""
    return QUESTIONS[task].format(path[0])


def facts(task: str, document: MultitaskDocument) -> Mapping[str, str]:
    """The facts of the text that the answer must list, in order."""
    return {
        "exhaustive": document.rooms,
        "matching": document.now,
        "ordering": document.days,
        "ranking": document.ranks,
    }[task]


def gold(task: str, document: MultitaskDocument, path: Sequence[str]) -> str | list[str]:
    """The answer: the end of `path` for retrieval, a list for all other tasks."""
    return path[-1] if task == "retrieval" else answer_lines(facts(task, document))


def answer_lines(facts: Mapping[str, str]) -> list[str]:
    """Facts as the lines of an answer."""
    return [f"{name} {value}" for name, value in facts.items()]


def prompt(document: MultitaskDocument, question: str) -> list[Message]:
    """The prompt as a chat: text and question."""
    return [{"role": "user", "content": f"{document.text} \n\n {question}"}]


def list_response(question: str, lines: Sequence[str]) -> str:
    """The text after `<think>`: the subject of the question, and the lines of the answer."""
    subject = question.split()[-2]
    return " \n ".join([f"{subject} . </think> [Answer]", *lines])


def path_response(path: Sequence[str]) -> str:
    """The text after `<think>` for retrieval: every step of a path, and its end as the answer."""
    return f"{' '.join(path)} . </think> {path[-1]}"


def fixed_wording() -> str:
    """The words that all prompts and responses have, for the tokenizer's vocabulary."""
    names = " ".join((*ROOMS, *DAYS, *RANKS, *PLACES))
    questions = " ".join(text.format("-") for text in QUESTIONS.values())
    return f"{names} is was {questions} {list_response(QUESTIONS['ordering'], ['-'])}"


def samples(config: MultitaskWorld, count: int, split: str, seed: str) -> Iterator[Sample]:
    """`count` samples of each task in turn, one per text."""
    tasks = list(QUESTIONS)
    for index, document in enumerate(islice(documents(config, f"{split}-{seed}"), count * len(tasks))):
        task, path = tasks[index % len(tasks)], document.paths[0]
        text = question(task, path)
        yield Sample(
            data_source=data_source(task),
            prompt=prompt(document, text),
            ground_truth=gold(task, document, path),
            index=index,
            split=split,
            question=text,
            task=data_source(task),
            ability=ABILITIES[task],
            payload={"document": f"{split}-{seed}-{index}"},
        )
