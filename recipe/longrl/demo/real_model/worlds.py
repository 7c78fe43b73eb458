"""The data of the experiment: grounded questions about real text, made by `data_gen.grounded_qa`.

    FOLDER/demonstrations.parquet           for the cold start, made of FOLDER/rows/demos.parquet
    FOLDER/rows/train.parquet               for reinforcement learning
    FOLDER/rows/val.parquet                 measured while training
    FOLDER/rows/test/x1.parquet             measured afterwards: as long as the training data
    FOLDER/rows/test/x2.parquet, x4.parquet with twice and four times as many chunks
    FOLDER/rows/test/squad.parquet          RULER-QA's kind, about SQuAD's articles: another kind of question

No two files have a question or a passage of evidence in common. A file that exists is kept.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from verl_longrl.data.schema import read_samples, write_samples

from data_gen.store import write_atomically
from recipe.longrl.demo.real_model import planted
from recipe.longrl.demo.real_model.commands import run
from recipe.longrl.evaluation.sources import LONG_CONTEXT_EVAL, read_member

Rows = dict[str, tuple[int, int]]
"""File -> rows, and how many times as many chunks as a training prompt they have."""
ROWS: Rows = {
    **{"demos": (128, 1), "train": (400, 1), "val": (32, 1)},
    **{"x1": (48, 1), "x2": (48, 2), "x4": (48, 4), "squad": (48, 1)},
}
TESTS = ("x1", "x2", "x4", "squad")


@dataclass(frozen=True)
class World:
    """A kind of question. write: writes questions of that many chunks for every file into a folder."""

    about: str
    write: Callable[[Path, Path, Rows, int], None]
    chunks: int = 6
    """Of a training prompt."""
    quote_share: float = 0.6
    """Of the evidence that demonstrations quote; to gather the rest is left to reinforcement learning."""
    options: tuple[str, ...] = ()
    """More options of `data_gen.grounded_qa`."""
    rows: Rows = field(default_factory=lambda: dict(ROWS))


def write_planted(hotpotqa: Path, folder: Path, rows: Rows, chunks: int) -> None:
    """Questions about planted facts, of which every chunk of a document has one."""
    for name, (count, times) in rows.items():
        target = folder / f"{name}.jsonl"
        planted.write_questions(hotpotqa, target, questions=count, passages=times * chunks, seed=name)


def write_hotpotqa(hotpotqa: Path, folder: Path, rows: Rows, chunks: int) -> None:
    """HotpotQA's questions, twice as many as wanted: of some, the answer stands outside of the evidence."""
    questions = json.loads(hotpotqa.read_bytes())
    random.Random("real-model").shuffle(questions)
    unused = _with_evidence_of_their_own(questions)
    for name, (count, _) in rows.items():
        write_atomically(
            folder / f"{name}.jsonl", [f"{json.dumps(each)}\n".encode() for each in islice(unused, 2 * count)]
        )


def _with_evidence_of_their_own(questions: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for question in questions:
        titles = {title for title, _ in question["supporting_facts"]}
        if not titles & seen:
            seen |= titles
            yield question


WORLDS = {
    # An answer has two parts, which no passage states together.
    "planted": World("two facts planted in real text", write_planted, options=("compose.unsupported=keep",)),
    "hotpotqa": World("HotpotQA", write_hotpotqa, chunks=8),
}


def build_rows(world: World, folder: Path, tokenizer: str) -> None:
    """Make the files of a world, with prompts counted in tokens of `tokenizer`. Exits where a command fails."""
    questions = folder / "questions"
    for name in ("hotpotqa", "squad"):
        content = read_member(LONG_CONTEXT_EVAL, f"long_context_eval/data/synthetic/json/{name}.json")
        write_atomically(questions / f"{name}.json", [content])
    asked = {name: size for name, size in world.rows.items() if name != "squad"}
    world.write(questions / "hotpotqa.json", questions, asked, world.chunks)
    for name, (count, times) in world.rows.items():
        target = folder / "rows" / ("test" if name in TESTS else "") / f"{name}.parquet"
        if target.is_file():
            continue
        made = folder / "grounded_qa" / name
        options = world.options if name != "squad" else (f"questions.limit={4 * count}",)
        run(
            folder / "data.log",
            *("data_gen.grounded_qa", "run", "--output", str(made)),
            *("--input", str(questions / f"{name}.{'json' if name == 'squad' else 'jsonl'}"), f"tokenizer={tokenizer}"),
            *(f"fill.chunks=[{times * world.chunks}]", "chunk.max_tokens=96", "export.val_fraction=0", *options),
        )
        write_samples(target, islice(read_samples(made / "train.parquet"), count))
    if not (folder / "demonstrations.parquet").is_file():
        run(
            folder / "data.log",
            *("data_gen.demonstrations", "from-gold", str(folder / "rows/demos.parquet"), "--tokenizer", tokenizer),
            *("--quote-share", str(world.quote_share), "--out", str(folder / "demonstrations.parquet")),
        )
