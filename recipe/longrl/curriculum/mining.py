"""Hard mining: which rows does a model not yet always answer? Those are worth training on (LoongRL, section 3.2).

Every row is answered `rollouts` times by fixed weights, sampled and scored as in training. A row's pass rate is the
mean of its `answer` parts. Rows below 1 are kept; `drop_unsolved` leaves out those at 0 as well, which teach nothing as
long as they stay there. The folder `mining` of the run holds

    asked.json                what was asked of what; another question is refused
    rollouts.jsonl            one line per answered row; a killed run goes on behind the last
    NAME.parquet              the kept rows of each file, with `pass_rate` in their payload
    mining.json, .png         counts and histograms, written last

`python -m recipe.longrl.curriculum.mining [mine.KEY=VALUE...] [hydra overrides...]` mines data.train_files on its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Set
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import pyarrow.parquet as pq
import yaml
from annotated_types import Gt, Le
from omegaconf import DictConfig, OmegaConf
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass as option_group
from rich.console import Console
from rich.table import Table
from verl_longrl.config import LongRLConfig
from verl_longrl.data.jsonl import append_lines, drop_partial_line, dumps, encode_line, iterate_jsonl
from verl_longrl.data.schema import Sample, read_samples, write_samples
from verl_longrl.folder_lock import FolderInUse
from verl_longrl.options import Options
from verl_longrl.rewards.failure_guard import FailureGuard
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.score import FAILURES
from verl_longrl.trainer.checkpoints import write_atomic

from data_gen.progress import progress
from recipe.longrl import command_flags, console, model_folder, preflight, run_identity, settings
from recipe.longrl.inference.answering import Answering, sampling_of
from recipe.longrl.main import refuse
from recipe.longrl.run_lock import alone

SOLVED = 1 - 1e-9
PATHS = {
    "data.train_files": ("files",),
    "actor_rollout_ref.model.path": ("model", "made_of"),
    "actor_rollout_ref.model.tokenizer_path": (),
    run_identity.SCORERS: (),
}
"""Keys whose content pass rates depend on, and what in asked.json names the same by path."""
CHECKED = 512
"""Scores after which it is looked at how many failed."""


class MiningError(RuntimeError):
    """Mining cannot go on, or leaves nothing to train on; the message says why and what to do."""


@option_group(frozen=True)
class MineOptions(Options):
    """How rows are mined before a stage trains on them: rows that every answer solves are left out."""

    rollouts: PositiveInt = 8
    """Answers of each row."""
    drop_unsolved: bool = False
    """Leave out rows that no answer solves."""
    temperature: NonNegativeFloat | None = None
    """Sampling temperature; null: as in training."""
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    """Nucleus sampling; null: as in training."""

    def keeps(self, rate: float) -> bool:
        """Whether a row of this pass rate is trained on."""
        return rate < SOLVED and not (self.drop_unsolved and rate <= 0)


def folder_of(config: DictConfig) -> Path:
    """Where the mined rows of a run are."""
    return Path(config.longrl.output_dir) / "mining"


def mined_files(config: DictConfig) -> list[Path]:
    """The file of kept rows for each training file; named alike, numbered where names repeat."""
    names = [Path(file).stem for file in config.data.train_files]
    repeated = {name for name, times in Counter(names).items() if times > 1}
    unique = [f"{name}-{at}" if name in repeated else name for at, name in enumerate(names)]
    return [folder_of(config) / f"{name}.parquet" for name in unique]


def mine(config: DictConfig, options: MineOptions) -> None:
    """Mine the training files of a resolved configuration, or go on with it.

    Raises MiningError when the folder holds rows mined otherwise, and when too many scores fail.
    """
    folder = folder_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    _agree(folder / "asked.json", _asked(config, options))
    if not finished(config):
        asyncio.run(_roll_out(config, options, folder / "rollouts.jsonl"))
        found = _select(config, options, folder)
        _plot(found, folder / "mining.png")
        write_atomic(folder / "mining.json", dumps(found, indent=2) + "\n")


def finished(config: DictConfig) -> bool:
    """Whether the training files of a configuration have been mined."""
    return (folder_of(config) / "mining.json").is_file()


def kept_files(config: DictConfig) -> list[Path]:
    """The files of kept rows that mining has left.

    Raises MiningError when fewer rows are left than a batch has.
    """
    folder, batch = folder_of(config), config.data.train_batch_size
    files = json.loads((folder / "mining.json").read_text())["files"]
    kept = sum(file["kept"] for file in files)
    if kept < batch:
        raise MiningError(
            f"mining kept {kept} rows, and a batch has {batch}: the model answers nearly everything here. Give harder "
            f"or more data.train_files and delete {folder}, or lower data.train_batch_size"
        )
    return [path for path, file in zip(mined_files(config), files, strict=True) if file["kept"]]


def _asked(config: DictConfig, options: MineOptions) -> dict[str, Any]:
    """What the pass rates depend on."""
    return {
        "options": asdict(options),
        "files": [run_identity.with_size(file) for file in config.data.train_files],
        "content": {key: held for key, held in run_identity.contents(settings.plain(config)).items() if key in PATHS},
        "model": config.actor_rollout_ref.model.path,
        "made_of": model_folder.origin(config.actor_rollout_ref.model.path),
        "sampling": _sampling(config, options),
        "reward": {key: str(value) for key, value in settings.plain(config.longrl.reward).items()},
    }


def _agree(path: Path, asked: dict[str, Any]) -> None:
    if path.is_file():
        before = json.loads(path.read_text())
        contents = before.get("content", {}).keys() & asked["content"].keys()  # earlier versions wrote fewer keys
        old, new = _comparable(before, contents), _comparable(asked, contents)
        differing = [f"{key}: {old[key]} -> {new[key]}" for key in new if key in old and old[key] != new[key]]
        if differing:
            raise MiningError(
                "\n".join([f"{path.parent} holds rows that were mined otherwise:", *differing])
                + f"\nFix: delete {path.parent}, or give this run its own folder with trainer.experiment_name=NAME"
            )
    else:
        write_atomic(path, json.dumps(asked, indent=2) + "\n")


def _comparable(asked: dict[str, Any], contents: Set[str]) -> dict[str, Any]:
    """What is compared of what was asked: these contents in the place of the paths that they are at."""
    by_path = {"content", *(name for key in contents for name in PATHS[key])}
    found = {key: value for key, value in asked.items() if key not in by_path}
    found["reward"] = _with_defaults(asked["reward"])
    if run_identity.SCORERS in contents:
        del found["reward"]["scorers"]
    return found | {f"content of {key}": asked["content"][key] for key in contents}


def _with_defaults(reward: dict[str, str]) -> dict[str, Any]:
    """Stored reward settings, with the defaults of keys that an earlier version did not store."""
    defaults = RewardOptions.defaults()
    answer = defaults["answer"] | yaml.safe_load(reward.get("answer", "{}"))
    return {key: str(value) for key, value in defaults.items()} | reward | {"answer": answer}


def _sampling(config: DictConfig, options: MineOptions) -> dict[str, Any]:
    return sampling_of(config, n=options.rollouts, temperature=options.temperature, top_p=options.top_p)


async def _roll_out(config: DictConfig, options: MineOptions, path: Path) -> None:
    """Answer and score the rows that `path` does not have yet, one line each. A row with a failed score counts as not
    answered, so the next start asks it again."""
    drop_partial_line(path)
    done = {key for key, line in _answered(path).items() if not _failed(line)}
    total = sum(pq.read_metadata(file).num_rows for file in config.data.train_files)
    if len(done) == total:
        return
    longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
    guard, statuses = FailureGuard(longrl.reward.max_failure_share), []
    title = f"{console.MARK}mining"  # progress is for the terminal, what engines print for the log
    before = f", {len(done)} of them before" if done else ""
    print(f"{title}: {total} rows, {options.rollouts} answers each{before}; starting vLLM", flush=True)
    left = (item for item in _rows(config) if item[:2] not in done)
    async with Answering(config, longrl, _sampling(config, options)) as answering:
        with progress(title, total, "rows", start=len(done)) as advance:
            async for answered in answering.lines(left):
                append_lines(path, encode_line(answered))
                advance(1)
                statuses += answered.get("statuses", [])
                if len(statuses) >= CHECKED:
                    _check(guard, statuses)
                    statuses = []
    _check(guard, statuses)


def _check(guard: FailureGuard, statuses: list[str]) -> None:
    if problem := guard.check(statuses):
        raise MiningError(problem)


def _answered(path: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """(file, row) -> its last line, without the responses, which may be gigabytes."""
    found = {}
    for answered in iterate_jsonl(path, ("file", "row", "task")):
        answered.pop("responses", None)
        found[answered["file"], answered["row"]] = answered
    return found


def _failed(line: dict[str, Any]) -> bool:
    return any(status in FAILURES for status in line.get("statuses", ()))


def _rows(config: DictConfig) -> Iterator[tuple[int, int, Sample]]:
    """(file, row, sample) of all training files."""
    for at, file in enumerate(config.data.train_files):
        for row, sample in enumerate(read_samples(file)):
            yield at, row, sample


def _rate(line: dict[str, Any]) -> float | None:
    """The pass rate of an answered row, over the answers whose scores did not fail; None when there is none."""
    pairs = zip(line.get("answers", ()), line.get("statuses", ()), strict=True)
    answers = [answer for answer, status in pairs if status not in FAILURES]
    return fmean(answers) if answers else None


def _select(config: DictConfig, options: MineOptions, folder: Path) -> dict[str, Any]:
    """Write the kept rows of each file; returns what mining.json holds."""
    lines = _answered(folder / "rollouts.jsonl")
    rates = {key: _rate(line) for key, line in lines.items()}
    files = []
    for at, (file, target) in enumerate(zip(config.data.train_files, mined_files(config), strict=True)):
        own = {row: rate for (number, row), rate in rates.items() if number == at}
        kept = {row: rate for row, rate in own.items() if rate is not None and options.keeps(rate)}
        if kept:
            write_samples(target, _kept(file, kept))
        files.append(
            {
                "file": str(file),
                "rows": len(own),
                "kept": len(kept),
                "solved": sum(rate is not None and rate >= SOLVED for rate in own.values()),
                "unsolved": sum(rate is not None and rate <= 0 for rate in own.values()),
                "too_long": sum("too_long" in line for (number, _), line in lines.items() if number == at),
                "unscored": sum(rate is None and "too_long" not in lines[at, row] for row, rate in own.items()),
            }
        )
    tasks: dict[str, Counter[int]] = defaultdict(Counter)
    for key, rate in rates.items():
        if rate is not None:
            tasks[lines[key]["task"]][_bin(rate, options.rollouts)] += 1
    histogram = {task: [counts[at] for at in range(options.rollouts + 1)] for task, counts in sorted(tasks.items())}
    return {"rollouts": options.rollouts, "files": files, "pass_rate": histogram}


def _bin(rate: float, rollouts: int) -> int:
    """0: never right, `rollouts`: always right, between them what lies between."""
    if rate >= SOLVED:
        return rollouts
    return min(rollouts - 1, max(1, round(rate * rollouts))) if rate > 0 else 0


def _kept(file: str, rates: dict[int, float]) -> Iterator[Sample]:
    for row, sample in enumerate(read_samples(file)):
        if row in rates:
            yield replace(sample, payload={**sample.payload, "pass_rate": rates[row]})


def show(config: DictConfig) -> None:
    """Print what mining has found."""
    folder = folder_of(config)
    found = json.loads((folder / "mining.json").read_text())
    table = Table(title=f"mined with {found['rollouts']} rollouts a row", title_justify="left")
    columns = ("file", "rows", "kept", "solved", "unsolved", "too_long", "unscored")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="left" if column == "file" else "right", overflow="fold")
    for file in found["files"]:
        table.add_row(Path(file["file"]).name, *(str(file[column]) for column in columns[1:]))
    terminal = Console()
    terminal.print(table)
    for task, counts in found["pass_rate"].items():
        bars = "  ".join(f"{right}/{found['rollouts']}: {count}" for right, count in enumerate(counts))
        terminal.print(f"{task}, rows by answers right: {bars}", soft_wrap=True)
    terminal.print(f"details {folder}", soft_wrap=True)


def _plot(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    bottom = [0] * (found["rollouts"] + 1)
    for task, counts in found["pass_rate"].items():
        axis.bar(range(len(counts)), counts, bottom=bottom, label=task)
        bottom = [a + b for a, b in zip(bottom, counts, strict=True)]
    axis.set(xlabel=f"answers right of {found['rollouts']}", ylabel="rows", title="pass rates of the mined rows")
    axis.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def split(arguments: list[str]) -> tuple[MineOptions, list[str]]:
    """mine.* options, and the other arguments. Raises SettingsError."""
    own = [argument.removeprefix("mine.") for argument in arguments if argument.startswith("mine.")]
    others = [argument for argument in arguments if not argument.startswith("mine.")]
    try:
        return MineOptions.from_dict(settings.plain(OmegaConf.from_dotlist(own)), "mine."), others
    except ValueError as error:
        raise settings.SettingsError(str(error)) from error


def main(arguments: list[str] | None = None) -> None:
    """The command line. Exits with a plain message: status 2 for what is wrong with what was asked, 1 for a mining that
    cannot go on or leaves nothing to train on."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        asked, arguments = command_flags.split(arguments, ("--help", "-h"))
        if asked:
            print(__doc__)
            return
        options, overrides = split(arguments)
        config = settings.compose(overrides)
        with alone(settings.run_folders(config)):
            settings.resolve(config)
            preflight.decide(config)
            with console.logged(Path(config.longrl.output_dir) / "mining.log"):
                mine(config, options)
            show(config)
            kept_files(config)
    except (settings.SettingsError, FolderInUse) as error:
        refuse(error)
    except MiningError as error:
        sys.exit(f"mining: {error}")


if __name__ == "__main__":
    main()
