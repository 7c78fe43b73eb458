"""Choose demonstrations among the responses that a model has given: rejection sampling.

Responses are read from the files of runs, scored again with the scorers of this version, and kept if their reward
reaches a threshold. What is read, with the rows that were answered:

    RUN                    a training run with rollouts/, whose rows are in its data.train_files
    RUN/mining             a mined stage (rollouts.jsonl), whose rows are in the files that it mined
    EVALUATION/set/...     an evaluation's folder with answers.jsonl of the benchmark own_parquet, whose rows are in the
                           files of --rows
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from verl_longrl.data.demonstrations import Demonstration
from verl_longrl.data.jsonl import iterate_jsonl
from verl_longrl.data.logged_rows import match_prompts
from verl_longrl.data.schema import Sample, read_samples
from verl_longrl.rewards import RewardOptions
from verl_longrl.trainer.recorded_run import iterate_rollouts
from verl_longrl.trainer.rollout_log import PROMPTS

Order = Literal["shortest", "first", "random"]
"""Which of a prompt's responses are kept: the shortest, the first that were generated, or a random choice."""


NAME_ROWS = "name the data files that were answered, in their order, with --rows"


class SourceError(ValueError):
    """A folder holds no responses, or their rows cannot be found; the message has the fix."""


class Place(NamedTuple):
    """A row's file and position."""

    file: str
    row: int


@dataclass(frozen=True)
class RejectionOptions:
    """threshold: least reward. per_prompt: most demonstrations of one prompt."""

    threshold: float
    per_prompt: int = 1
    order: Order = "shortest"
    seed: int = 0


@dataclass
class Chosen:
    """Counts of the responses that were read, by what became of them."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    prompts: int = 0


def read_responses(source: Path, rows: Sequence[str]) -> Iterator[tuple[Place, str]]:
    """(row, response) of everything in a folder, in the order in which it was generated.

    rows: files that the responses answer, instead of those that the folder names. Raises SourceError.
    """
    if (source / "rollouts").is_dir():
        yield from _of_run(source, rows)
    elif (source / "rollouts.jsonl").is_file():
        yield from _of_mining(source, rows)
    elif answers := sorted(source.rglob("answers.jsonl")):
        yield from _of_evaluation(answers, rows)
    else:
        raise SourceError(
            f"{source}: no rollouts/, rollouts.jsonl or answers.jsonl in it. Fix: name the folder of a run, its mining "
            "folder, or the folder of an evaluation"
        )


def _of_run(run: Path, rows: Sequence[str]) -> Iterator[tuple[Place, str]]:
    files = list(rows) or _train_files(run)
    matched = match_prompts(iterate_jsonl(run / "rollouts" / PROMPTS, ("prompt",)), files)
    if not matched:
        raise SourceError(
            f"{run}: no prompt belongs to a row of {files}. Fix: --rows with the files that it trained on"
        )
    for rollout in iterate_rollouts(run / "rollouts", keys=("prompt", "response")):
        if (row := matched.get(rollout["prompt"])) is not None:
            yield Place(row.file, row.number), rollout["response"]


def _train_files(run: Path) -> list[str]:
    try:
        files = yaml.safe_load((run / "config.yaml").read_text())["data"]["train_files"]
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise SourceError(
            f"{run / 'config.yaml'}: cannot be read ({error}). Fix: --rows with the data files"
        ) from error
    return [files] if isinstance(files, str) else list(files)


def _of_mining(folder: Path, rows: Sequence[str]) -> Iterator[tuple[Place, str]]:
    files = list(rows)
    if not files:
        try:
            asked = json.loads((folder / "asked.json").read_text())["files"]
        except (OSError, ValueError, LookupError) as error:
            raise SourceError(
                f"{folder / 'asked.json'}: cannot be read ({error}). Fix: --rows with the data files"
            ) from error
        # Files are named with their size: "train.parquet (1234 bytes)".
        files = [name.rpartition(" (")[0] if name.endswith(" bytes)") else name for name in asked]
    for line in iterate_jsonl(folder / "rollouts.jsonl", ("file", "row")):
        if not 0 <= line["file"] < len(files):
            raise SourceError(
                f"{folder}: rollouts of file {line['file']}, and {len(files)} files are named. Fix: --rows"
            )
        for response in line.get("responses") or ():
            yield Place(files[line["file"]], line["row"]), response


def _of_evaluation(answers: Sequence[Path], rows: Sequence[str]) -> Iterator[tuple[Place, str]]:
    by_name = {Path(file).stem: file for file in rows}
    if not by_name:
        raise SourceError(f"{answers[0]}: does not name the data files. Fix: {NAME_ROWS}")
    for path in answers:
        for answer in iterate_jsonl(path, ("row", "state")):
            stem, _, number = str(answer["row"]).rpartition("/")
            if stem in by_name and number.isdigit() and isinstance(answer.get("text"), str):
                yield Place(by_name[stem], int(number)), answer["text"]


def choose(
    responses: Iterable[tuple[Place, str]], options: RejectionOptions, rewards: RewardOptions, counts: Chosen
) -> Iterator[Demonstration]:
    """The demonstrations, in the order of files and rows. Sets `counts`."""
    by_place: dict[Place, list[str]] = defaultdict(list)
    for place, response in responses:
        counts.read += 1
        by_place[place].append(response)
    for file in dict.fromkeys(place.file for place in by_place):
        wanted = {place.row: texts for place, texts in by_place.items() if place.file == file}
        for number, sample in enumerate(itertools.islice(read_samples(file), max(wanted) + 1)):
            kept = _choose_of_row(sample, number, wanted.get(number, ()), options, rewards, counts)
            counts.kept += len(kept)
            counts.prompts += bool(kept)
            yield from kept


def _choose_of_row(
    sample: Sample,
    number: int,
    responses: Sequence[str],
    options: RejectionOptions,
    rewards: RewardOptions,
    counts: Chosen,
) -> list[Demonstration]:
    # A dictionary keeps the order in which its keys were first inserted.
    distinct = list(dict.fromkeys(responses))
    counts.dropped["repeats another response to the row"] += len(responses) - len(distinct)
    good: list[str] = []
    for response in distinct:
        score = Demonstration(sample, response).score(rewards)
        if score.failed:
            counts.dropped[f"cannot be scored ({score.status})"] += 1
        elif score.value < options.threshold:
            counts.dropped[f"reward below {options.threshold:g}"] += 1
        else:
            good.append(response)
    if options.order == "shortest":
        good.sort(key=len)
    elif options.order == "random":
        random.Random(f"{options.seed} {number} {sample.question}").shuffle(good)
    counts.dropped[f"more than {options.per_prompt} of the row"] += max(0, len(good) - options.per_prompt)
    return [Demonstration(sample, response) for response in good[: options.per_prompt]]


def stored_rewards(source: Path) -> dict[str, Any]:
    """`longrl.reward` of a run's stored configuration; {} where there is none."""
    for folder in (source, source.parent):
        if (folder / "config.yaml").is_file():
            stored = yaml.safe_load((folder / "config.yaml").read_text())
            block = stored.get("longrl", {}).get("reward") if isinstance(stored, dict) else None
            return block if isinstance(block, dict) else {}
    return {}
