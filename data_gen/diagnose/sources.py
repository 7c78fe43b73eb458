"""Read scored responses, prompt by prompt, from data pipelines, training runs and hard mining.

| source | path | one prompt is | its id |
|---|---|---|---|
| stage difficulty of data_gen.multitask | the run's folder | a sample, answered by the small model | the sample's |
| training with `longrl.log_rollouts` | the run's folder | a group of rollouts of one step | STEP:PROMPT |
| hard mining | the run's folder `mining` | a row of a data file | FILE:ROW |

Of a training run, the groups that it trained on are read. Of the groups that group filtering replaced because all
rewards were equal, the numbers are read from its metrics.jsonl, because it logs only some of them.
"""

from __future__ import annotations

import itertools
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from verl_longrl.data.jsonl import iterate_jsonl
from verl_longrl.data.schema import decode_extra_info, read_rows
from verl_longrl.rewards.score import FAILURES
from verl_longrl.trainer.rollout_log import PROMPTS, step_files

from data_gen.diagnose.failure_modes import Response
from data_gen.multitask.computed_tasks import data_source

_WITH_SIZE = re.compile(r"(.*) \((\d+) bytes\)")


class SourceError(ValueError):
    """A source that cannot be read; the message names the file and the fix."""


class Answered(NamedTuple):
    """A prompt and its responses. tokens: the prompt's length; difficulty: a level of data_gen.multitask; both None
    if the source does not have them."""

    id: str
    task: str
    tokens: int | None
    difficulty: str | None
    responses: list[Response]


@dataclass
class Filtered:
    """Groups of a training run that were replaced because all their rewards were equal: by task the number of all
    groups, of those with only right answers, and of those with only wrong answers."""

    groups: Counter[str] = field(default_factory=Counter)
    all_right: Counter[str] = field(default_factory=Counter)
    all_wrong: Counter[str] = field(default_factory=Counter)

    def add(self, other: Filtered) -> None:
        """Add the counts of another run."""
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            mine.update(theirs)


class ResponseSource(ABC):
    """Iterates over prompts and their responses; afterwards `filtered` has the counts of replaced groups. `kind`: the
    name of the kind of source, for messages."""

    kind: ClassVar[str]

    def __init__(self, path: Path):
        self.path = path
        self.filtered = Filtered()

    def __iter__(self) -> Iterator[Answered]:
        try:
            yield from self._read()
        except KeyError as error:
            raise SourceError(f"{self.path}: a row has no {error}; expected rows of a {self.kind}") from error

    @abstractmethod
    def _read(self) -> Iterator[Answered]:
        """Its prompts, in order. Raises SourceError."""


def open_source(path: Path, last_steps: int = 0) -> ResponseSource:
    """The source at a path. last_steps: of a training run, read only this many; 0 for all. Raises SourceError."""
    folder = path.parent if path.name == "rollouts.jsonl" else path
    if (folder / "difficulty").is_dir():
        return DifficultyResponses(folder)
    if (folder / "rollouts.jsonl").is_file():
        return MiningResponses(folder)
    for rollouts in (folder / "rollouts", folder):
        if (rollouts / PROMPTS).is_file():
            return TrainingResponses(rollouts, last_steps)
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    raise SourceError(
        f"{path}: nothing to diagnose; expected the output of data_gen.multitask with difficulty.small set "
        "(difficulty/), a training run with longrl.log_rollouts=true (rollouts/prompts.jsonl), or a run's mining "
        "(rollouts.jsonl)"
    )


class DifficultyResponses(ResponseSource):
    """The small model's responses. It answers all samples, and is closer to the model that is trained."""

    kind = "data_gen.multitask, stage difficulty"

    def _read(self) -> Iterator[Answered]:
        parts = sorted((self.path / "difficulty").glob("*.jsonl"))
        if not parts:
            raise SourceError(
                f"{self.path / 'difficulty'}: has no rows. Fix: set difficulty.small, and run that stage to its end"
            )
        for part in parts:
            for row in iterate_jsonl(part):
                # A sample without rates was not answered, such as a summary.
                yield from (_sample(sample) for sample in row["samples"] if sample["rates"])


def _sample(sample: Mapping[str, Any]) -> Answered:
    small = next(iter(sample["rates"]))
    responses = [
        Response(
            None if response["reward"] is None else response["parts"].get("answer", 0.0),
            response["status"],
            response["reason"],
            response["parts"].get("recall", 0.0),
            response["parts"].get("precision", 0.0),
        )
        for response in sample["responses"]
        if response["server"] == small
    ]
    return Answered(sample["id"], data_source(sample["task"]), sample["prompt_tokens"], sample["level"], responses)


class TrainingResponses(ResponseSource):
    """The rollouts of a run's steps."""

    kind = "training run"

    def __init__(self, path: Path, last_steps: int):
        super().__init__(path)
        files = step_files(path)
        if not files:
            raise SourceError(f"{path}: has no train/STEP.jsonl; the run has not finished a step yet")
        self.files = dict([*files.items()][-last_steps:])

    def _read(self) -> Iterator[Answered]:
        prompts = iterate_jsonl(self.path / PROMPTS, ("prompt",))
        about = {prompt["prompt"]: (prompt.get("prompt_tokens"), prompt.get("difficulty")) for prompt in prompts}
        for step, file in self.files.items():
            for _, group in itertools.groupby(iterate_jsonl(file), key=lambda row: row["uid"]):
                rows = list(group)
                prompt, task = rows[0]["prompt"], rows[0]["task"]
                tokens, difficulty = about.get(prompt, (None, None))
                yield Answered(f"{step}:{prompt}", task, tokens, difficulty, list(map(_rollout, rows)))
        self._count_filtered()

    def _count_filtered(self) -> None:
        metrics = self.path.parent / "metrics.jsonl"
        if not metrics.is_file():
            return
        for line in iterate_jsonl(metrics, ("split", "step")):
            if line["split"] != "train" or line["step"] not in self.files:
                continue
            for key, number in line.items():
                task, _, name = key.removeprefix("task/").rpartition("/")
                counter = {
                    "filtered": self.filtered.groups,
                    "filtered_all_right": self.filtered.all_right,
                    "filtered_all_wrong": self.filtered.all_wrong,
                }.get(name)
                if key.startswith("task/") and counter is not None and number:
                    counter[task] += int(number)


def _rollout(row: Mapping[str, Any]) -> Response:
    # With citations, recall and precision are those of the citations, and not of the answer.
    is_list = not row["cited"]
    return Response(
        None if row["status"] in FAILURES else row["answer"],
        row["status"],
        row["reason"],
        row["recall"] if is_list else 0.0,
        row["precision"] if is_list else 0.0,
        row["response"],
    )


class MiningResponses(ResponseSource):
    """The responses to the rows of data files. If a row was answered several times, the last time counts."""

    kind = "hard mining"

    def _read(self) -> Iterator[Answered]:
        rollouts = self.path / "rollouts.jsonl"
        about = [_rows_of(stored) for stored in self._files()]
        last = {(line["file"], line["row"]): number for number, line in enumerate(iterate_jsonl(rollouts))}
        for number, line in enumerate(iterate_jsonl(rollouts)):
            at, row = line["file"], line["row"]
            # `last.get`, because mining may have written further lines since the first pass over the file.
            if last.get((at, row)) == number and "too_long" not in line:
                name, rows = about[at] if at < len(about) else (str(at), {})
                tokens, difficulty = rows.get(row, (None, None))
                texts = line["responses"] or [None] * len(line["answers"])
                responses = [
                    Response(None if status in FAILURES else answer, status, text=text)
                    for answer, status, text in zip(line["answers"], line["statuses"], texts, strict=True)
                ]
                yield Answered(f"{name}:{row}", line["task"], tokens, difficulty, responses)

    def _files(self) -> list[str]:
        asked = self.path / "asked.json"
        return json.loads(asked.read_text())["files"] if asked.is_file() else []


def _rows_of(stored: str) -> tuple[str, dict[int, tuple[int | None, str | None]]]:
    """The name of a data file, given as "PATH (N bytes)", and the length and difficulty of each of its rows. If the
    file is missing or has another size: no rows."""
    match = _WITH_SIZE.fullmatch(stored)
    path = Path(match[1] if match else stored)
    if not match or not path.is_file() or path.stat().st_size != int(match[2]):
        return path.name, {}
    rows = read_rows(path, ["prompt_tokens", "extra_info.payload"])
    return path.name, {
        number: (row["prompt_tokens"], decode_extra_info(row["extra_info"]).get("difficulty"))
        for number, row in enumerate(rows)
    }
