"""Hard mining: keep the training rows that a model does not always answer correctly (LoongRL, section 3.2).

Fixed weights answer every row `rollouts` times, sampled and scored as in training. A row's pass rate is the mean of the
`answer` parts of its scores. Rows with a pass rate below 1 are kept. `drop_unsolved` also leaves out rows with a pass
rate of 0, which give no signal while they stay there. The folder `mining` of the run contains

    asked.json                the settings and files that were mined; different ones are refused
    rollouts.jsonl            one line per answered row; a killed run resumes after the last line
    NAME.parquet              the kept rows of each file, with `pass_rate` in their payload
    mining.json, .png         counts and histograms, written last

`python -m recipe.longrl.curriculum.mining [mine.KEY=VALUE...] [hydra overrides...]` mines data.train_files without
training.
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
from verl_longrl.data.progress import progress_bar
from verl_longrl.data.schema import Sample, read_samples, write_samples
from verl_longrl.folder_lock import FolderInUse
from verl_longrl.options import Options
from verl_longrl.rewards.failure_guard import FailureGuard
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.score import FAILURES
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl import command_flags, console, model_folder, preflight, run_identity, run_lock, settings
from recipe.longrl.inference.answering import Answering, sampling_of
from recipe.longrl.main import refuse

HELP = __doc__
SOLVED = 1 - 1e-9
"""A mean of n ones may be a little below 1."""
COMPARED_CONTENTS = {
    "data.train_files": ("files",),
    "actor_rollout_ref.model.path": ("model", "made_of"),
    "actor_rollout_ref.model.tokenizer_path": (),
    run_identity.SCORERS: (),
}
"""Keys of files whose content the pass rates depend on, and the entries of asked.json that name the same files by
path."""
SCORES_PER_CHECK = 512
"""The share of failed scores is checked after this many."""


class MiningError(RuntimeError):
    """Mining cannot continue, or leaves too few rows to train on; the message gives the reason and a fix."""


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
        """Whether a row with this pass rate is trained on."""
        return rate < SOLVED and not (self.drop_unsolved and rate <= 0)


def mining_folder(config: DictConfig) -> Path:
    """The folder of a run's mined rows."""
    return Path(config.longrl.output_dir) / "mining"


def mined_files(config: DictConfig) -> list[Path]:
    """The file of kept rows for each training file: of the same name, numbered where two files share a name."""
    names = [Path(file).stem for file in config.data.train_files]
    # a/train and b/train become train-0 and train-1; a name that occurs once stays.
    repeated = {name for name, times in Counter(names).items() if times > 1}
    unique = [f"{name}-{at}" if name in repeated else name for at, name in enumerate(names)]
    return [mining_folder(config) / f"{name}.parquet" for name in unique]


def mine_files(config: DictConfig, options: MineOptions) -> None:
    """Mine the training files of a resolved configuration, resuming what an earlier call began.

    Raises MiningError when the folder has rows that were mined with different settings, and when too many scores fail.
    """
    folder = mining_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    _require_same_settings(folder / "asked.json", _settings(config, options))
    if not is_finished(config):
        asyncio.run(_roll_out(config, options, folder / "rollouts.jsonl"))
        summary = _write_kept_rows(config, options, folder)
        _plot(summary, folder / "mining.png")
        write_atomic(folder / "mining.json", dumps(summary, indent=2) + "\n")


def is_finished(config: DictConfig) -> bool:
    """Whether the training files of a configuration have been mined."""
    return (mining_folder(config) / "mining.json").is_file()


def kept_files(config: DictConfig) -> list[Path]:
    """The files of kept rows, without files of which no row was kept.

    Raises MiningError when fewer rows are left than a batch has.
    """
    folder, batch = mining_folder(config), config.data.train_batch_size
    files = json.loads((folder / "mining.json").read_text())["files"]
    kept = sum(file["kept"] for file in files)
    if kept < batch:
        raise MiningError(
            f"mining kept {kept} rows, fewer than one batch of {batch}: the model already solves almost all of them. "
            f"Fix: give harder or more data.train_files and delete {folder}, or lower data.train_batch_size"
        )
    return [path for path, file in zip(mined_files(config), files, strict=True) if file["kept"]]


def _settings(config: DictConfig, options: MineOptions) -> dict[str, Any]:
    """Everything that the pass rates depend on."""
    contents = run_identity.digest_contents(settings.plain(config))
    return {
        "options": asdict(options),
        "files": [run_identity.with_size(file) for file in config.data.train_files],
        "content": {key: content for key, content in contents.items() if key in COMPARED_CONTENTS},
        "model": config.actor_rollout_ref.model.path,
        "made_of": model_folder.original_model(config.actor_rollout_ref.model.path),
        "sampling": _sampling(config, options),
        "reward": {key: str(value) for key, value in settings.plain(config.longrl.reward).items()},
    }


def _require_same_settings(path: Path, now: dict[str, Any]) -> None:
    """Write the settings of a first start to `path`; raises MiningError where a later start has different ones."""
    if not path.is_file():
        write_atomic(path, json.dumps(now, indent=2) + "\n")
        return
    before = json.loads(path.read_text())
    # Earlier versions stored no content, or that of fewer keys.
    keys = before.get("content", {}).keys() & now["content"].keys()
    old, new = _comparable(before, keys), _comparable(now, keys)
    # What an earlier version did not store cannot be compared.
    lines = [f"{key}: {old[key]} -> {new[key]}" for key in new if key in old and old[key] != new[key]]
    if lines:
        fix = f"Fix: delete {path.parent}, or give this run its own folder with trainer.experiment_name=NAME"
        raise MiningError("\n".join([f"{path.parent} was mined with different settings:", *lines, fix]))


def _comparable(stored: dict[str, Any], content_keys: Set[str]) -> dict[str, Any]:
    """The stored settings, with the contents of these keys instead of the paths of the same files."""
    # Where the content is known, the path does not matter: a model that was moved is still the same.
    by_path = {"content", *(name for key in content_keys for name in COMPARED_CONTENTS[key])}
    values = {key: value for key, value in stored.items() if key not in by_path}
    values["reward"] = _with_defaults(stored["reward"])
    if run_identity.SCORERS in content_keys:
        del values["reward"]["scorers"]
    return values | {f"content of {key}": stored["content"][key] for key in content_keys}


def _with_defaults(reward: dict[str, str]) -> dict[str, Any]:
    """Stored reward settings, with the defaults of keys that an earlier version did not store."""
    defaults = RewardOptions.defaults()
    answer = defaults["answer"] | yaml.safe_load(reward.get("answer", "{}"))
    return {key: str(value) for key, value in defaults.items()} | reward | {"answer": answer}


def _sampling(config: DictConfig, options: MineOptions) -> dict[str, Any]:
    return sampling_of(config, n=options.rollouts, temperature=options.temperature, top_p=options.top_p)


async def _roll_out(config: DictConfig, options: MineOptions, path: Path) -> None:
    """Answer and score the rows that `path` does not have yet, and append a line for each."""
    drop_partial_line(path)
    # A row with a failed score is answered again.
    done = {key for key, line in _read_lines(path).items() if not _has_failed_score(line)}
    total = sum(pq.read_metadata(file).num_rows for file in config.data.train_files)
    if len(done) == total:
        return
    longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
    guard, statuses = FailureGuard(longrl.reward.max_failure_share), []
    # Lines with this mark are shown in the terminal; what the engines print goes to the log alone.
    title = f"{console.MARK}mining"
    resumed = f" ({len(done)} rows already done)" if done else ""
    print(f"{title}: {total} rows x {options.rollouts} answers{resumed}; starting vLLM", flush=True)
    # A generator, because all rows together may not fit in memory.
    open_rows = ((file, row, sample) for file, row, sample in _rows(config) if (file, row) not in done)
    async with Answering(config, longrl, _sampling(config, options)) as answering:
        with progress_bar(title, total, "rows", start=len(done)) as advance:
            async for answered in answering.lines(open_rows):
                # Written row by row, so a kill loses only the rows in flight.
                append_lines(path, encode_line(answered))
                advance(1)
                statuses += answered.get("statuses", [])
                if len(statuses) >= SCORES_PER_CHECK:
                    _require_few_failures(guard, statuses)
                    statuses = []
    _require_few_failures(guard, statuses)


def _require_few_failures(guard: FailureGuard, statuses: list[str]) -> None:
    if problem := guard.check(statuses):
        raise MiningError(problem)


def _read_lines(path: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """(file, row) -> its last line, without the responses, which may be gigabytes."""
    lines = {}
    for answered in iterate_jsonl(path, ("file", "row", "task")):
        answered.pop("responses", None)
        # A row that was answered again has several lines, of which the last one counts.
        lines[answered["file"], answered["row"]] = answered
    return lines


def _has_failed_score(line: dict[str, Any]) -> bool:
    return any(status in FAILURES for status in line.get("statuses", ()))


def _rows(config: DictConfig) -> Iterator[tuple[int, int, Sample]]:
    """(file, row, sample) of all training files."""
    for at, file in enumerate(config.data.train_files):
        for row, sample in enumerate(read_samples(file)):
            yield at, row, sample


def _pass_rate(line: dict[str, Any]) -> float | None:
    """The mean over the answers whose scores did not fail; None when there is none."""
    pairs = zip(line.get("answers", ()), line.get("statuses", ()), strict=True)
    answers = [answer for answer, status in pairs if status not in FAILURES]
    return fmean(answers) if answers else None


def _write_kept_rows(config: DictConfig, options: MineOptions, folder: Path) -> dict[str, Any]:
    """Write the kept rows of each file; returns what mining.json contains."""
    lines = _read_lines(folder / "rollouts.jsonl")
    rates = {key: _pass_rate(line) for key, line in lines.items()}
    files = []
    for at, (file, target) in enumerate(zip(config.data.train_files, mined_files(config), strict=True)):
        rates_of_file = {row: rate for (file_at, row), rate in rates.items() if file_at == at}
        too_long = {row for (file_at, row), line in lines.items() if file_at == at and "too_long" in line}
        # A row without a rate was too long, or all of its scores failed. It is not kept.
        kept = {row: rate for row, rate in rates_of_file.items() if rate is not None and options.keeps(rate)}
        if kept:
            write_samples(target, _samples_with_rates(file, kept))
        scored = [rate for rate in rates_of_file.values() if rate is not None]
        files.append(
            {
                "file": str(file),
                "rows": len(rates_of_file),
                "kept": len(kept),
                "solved": sum(rate >= SOLVED for rate in scored),
                "unsolved": sum(rate <= 0 for rate in scored),
                "too_long": len(too_long),
                "unscored": sum(rate is None and row not in too_long for row, rate in rates_of_file.items()),
            }
        )
    # Task -> bin -> rows.
    tasks: dict[str, Counter[int]] = defaultdict(Counter)
    for key, rate in rates.items():
        if rate is not None:
            tasks[lines[key]["task"]][_histogram_bin(rate, options.rollouts)] += 1
    histogram = {
        task: [counts[correct] for correct in range(options.rollouts + 1)] for task, counts in sorted(tasks.items())
    }
    return {"rollouts": options.rollouts, "files": files, "pass_rate": histogram}


def _histogram_bin(rate: float, rollouts: int) -> int:
    """0: never right; `rollouts`: always right; all partial pass rates are in the bins between, also where a partly
    right answer's rate would round to an end."""
    if rate >= SOLVED:
        return rollouts
    # With 8 answers, a rate of 0.97 (all partly right) rounds to 8 and goes into bin 7.
    return min(rollouts - 1, max(1, round(rate * rollouts))) if rate > 0 else 0


def _samples_with_rates(file: str, rates: dict[int, float]) -> Iterator[Sample]:
    for row, sample in enumerate(read_samples(file)):
        if row in rates:
            yield replace(sample, payload={**sample.payload, "pass_rate": rates[row]})


def print_summary(config: DictConfig) -> None:
    """Print what mining.json contains."""
    folder = mining_folder(config)
    summary = json.loads((folder / "mining.json").read_text())
    rollouts = summary["rollouts"]
    table = Table(title=f"mined with {rollouts} answers per row", title_justify="left")
    columns = ("file", "rows", "kept", "solved", "unsolved", "too_long", "unscored")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="left" if column == "file" else "right", overflow="fold")
    for file in summary["files"]:
        table.add_row(Path(file["file"]).name, *(str(file[column]) for column in columns[1:]))
    terminal = Console()
    terminal.print(table)
    for task, counts in summary["pass_rate"].items():
        bins = "  ".join(f"{correct}/{rollouts}: {count}" for correct, count in enumerate(counts))
        terminal.print(f"{task}, rows by correct answers: {bins}", soft_wrap=True)
    terminal.print(f"details: {folder}", soft_wrap=True)


def _plot(summary: dict[str, Any], path: Path) -> None:
    import matplotlib

    # A backend that needs no display.
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    # The bars of the tasks are stacked: each begins where the one below ends.
    bottom = [0] * (summary["rollouts"] + 1)
    for task, counts in summary["pass_rate"].items():
        axis.bar(range(len(counts)), counts, bottom=bottom, label=task)
        bottom = [a + b for a, b in zip(bottom, counts, strict=True)]
    axis.set(xlabel=f"correct answers of {summary['rollouts']}", ylabel="rows", title="pass rates of the mined rows")
    axis.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def split_mine_options(arguments: list[str]) -> tuple[MineOptions, list[str]]:
    """The options in `mine.KEY=VALUE` arguments, and the other arguments. Raises SettingsError."""
    options = [argument.removeprefix("mine.") for argument in arguments if argument.startswith("mine.")]
    others = [argument for argument in arguments if not argument.startswith("mine.")]
    try:
        return MineOptions.from_dict(settings.plain(OmegaConf.from_dotlist(options)), "mine."), others
    except ValueError as error:
        raise settings.SettingsError(str(error)) from error


def main(arguments: list[str] | None = None) -> None:
    """The command line. Exits with a plain message: with status 2 for a wrong configuration, with status 1 when mining
    cannot continue or leaves too few rows to train on."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        flags, arguments = command_flags.split_flags(arguments, ("--help", "-h"))
        if flags:
            print(HELP)
            return
        options, overrides = split_mine_options(arguments)
        config = settings.compose(overrides)
        # The lock comes before everything that writes into the run's folders.
        with run_lock.hold(settings.run_folders(config)):
            settings.resolve(config)
            preflight.derive_settings(config)
            with console.log_output(Path(config.longrl.output_dir) / "mining.log"):
                mine_files(config, options)
            print_summary(config)
            kept_files(config)
    except (settings.SettingsError, FolderInUse) as error:
        refuse(error)
    except MiningError as error:
        sys.exit(f"mining: {error}")


if __name__ == "__main__":
    main()
