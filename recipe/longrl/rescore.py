"""Score the rollouts of a run again, to try a scorer or an option before training with it.

    python -m recipe.longrl.rescore outputs/demo --scorers my_rewards.py
    python -m recipe.longrl.rescore outputs/demo longrl.reward.answer.mode=exact

Reads RUN/rollouts and the rows that these are rollouts of, and changes nothing. The run's own reward options hold
unless they are overridden, except that no judge is asked: answers are decided by rule. Prints the mean of the old and
the new rewards of each task, and the rollouts whose rewards differ most.
"""

import asyncio
import dataclasses
import heapq
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from verl_longrl.data.jsonl import iterate_jsonl
from verl_longrl.data.logged_rows import Row, match_prompts
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.scoring import score_async
from verl_longrl.secrets import redact
from verl_longrl.trainer.rollout_log import PROMPTS, step_files

from recipe.longrl.run_identity import STORED

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

KEY = "longrl.reward"
LONGEST_SHOWN = 120
"""Characters of an answer in the table."""


class Change(NamedTuple):
    """A rollout with its reward in the log and its new score."""

    rollout: dict[str, Any]
    row: Row
    new: Score

    @property
    def size(self) -> float:
        return abs(self.new.value - self.rollout["score"])

    @property
    def differs(self) -> bool:
        return self.size > 1e-6


def rescore(run: Path, options: RewardOptions, files: Sequence[str]) -> list[Change]:
    """Score all rollouts of a run that belong to a row of the files.

    Raises FileNotFoundError when the run has no rollouts, and ValueError when none of them has a row in the files.
    """
    steps = step_files(run / "rollouts")
    if not steps:
        raise FileNotFoundError(
            f"{run / 'rollouts'}: has no rollouts. Fix: name the folder of a run, such as outputs/demo"
        )
    rows = match_prompts(iterate_jsonl(run / "rollouts" / PROMPTS, ("prompt",)), files)
    changes: list[Change] = []
    with IsolatedScorer(options) as isolation:
        for step in steps.values():
            rollouts = [
                rollout
                for rollout in iterate_jsonl(step, ("prompt", "response", "task", "score"))
                if rollout["prompt"] in rows and rollout["score"] is not None
            ]
            changes += asyncio.run(_score_step(rollouts, rows, isolation))
    if not changes:
        raise ValueError(
            f"files = {list(files)!r}: no rollout of {run} belongs to a row of these files. Fix: with --rows, name the "
            "files that the run was trained on"
        )
    return changes


async def _score_step(rollouts: list[dict[str, Any]], rows: dict[str, Row], isolation: IsolatedScorer) -> list[Change]:
    async def score_one(rollout: dict[str, Any]) -> Change:
        row = rows[rollout["prompt"]]
        new = await score_async(
            row.data_source,
            rollout["response"],
            row.ground_truth,
            row.extra_info,
            options=isolation.options,
            isolation=isolation,
        )
        return Change(rollout, row, new)

    return await asyncio.gather(*map(score_one, rollouts))


def read_settings(run: Path) -> dict[str, Any]:
    """The configuration that a run was started with. Raises FileNotFoundError without one."""
    path = run / STORED
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Fix: name the folder of a run, such as outputs/demo")
    settings: Any = OmegaConf.to_container(OmegaConf.load(path))
    return settings


def reward_options(stored: dict[str, Any], overrides: Sequence[str], scorers: Sequence[str]) -> RewardOptions:
    """The reward options of a run with some overridden, and without a judge. Raises ValueError for a wrong override."""
    for override in overrides:
        if not override.startswith(f"{KEY}.") or "=" not in override:
            raise ValueError(f"{override}: is not an option of rewards. Fix: write {KEY}.KEY=VALUE")
    merged = OmegaConf.merge(OmegaConf.create(stored), OmegaConf.from_dotlist(list(overrides)))
    values: Any = OmegaConf.to_container(OmegaConf.select(merged, KEY))
    options = RewardOptions.from_dict(values, f"{KEY}.")
    answer = dataclasses.replace(options.answer, by="rule")
    return dataclasses.replace(options, answer=answer, scorers=(*options.scorers, *scorers))


def table_of_tasks(changes: Sequence[Change]) -> Table:
    """Tasks as rows: the number of rollouts, mean rewards, and how many rewards differ or cannot be computed."""
    table = Table(title="mean reward", title_justify="left")
    for column in ("task", "rollouts", "old", "new", "change", "differ", "failed"):
        table.add_column(column, justify="left" if column == "task" else "right")
    by_task: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_task[change.rollout["task"]].append(change)
    for task, same in sorted(by_task.items()):
        old = statistics.fmean(change.rollout["score"] for change in same)
        new = statistics.fmean(change.new.value for change in same)
        differ, failed = sum(change.differs for change in same), sum(change.new.failed for change in same)
        table.add_row(task, str(len(same)), f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}", str(differ), str(failed))
    return table


def table_of_changes(changes: Sequence[Change], count: int) -> Table:
    """The rollouts whose rewards differ most, largest difference first."""
    table = Table(title="rewards that differ most", title_justify="left")
    for column in ("step", "uid", "rollout", "task", "old", "new", "status", "gold answer", "answer"):
        table.add_column(column, justify="right" if column in ("old", "new") else "left")
    differing = (change for change in changes if change.differs)
    for rollout, row, new in heapq.nlargest(count, differing, key=lambda change: change.size):
        answer = rollout["response"][-LONGEST_SHOWN:] if new.candidate is None else new.candidate[:LONGEST_SHOWN]
        cells = [str(rollout.get(key, "")) for key in ("step", "uid", "rollout", "task")]
        cells += [f"{rollout['score']:.3f}", f"{new.value:.3f}"]
        cells += [f"{new.status}: {redact(new.reason)}" if new.reason else new.status]
        cells += [str(row.ground_truth)[:LONGEST_SHOWN], answer]
        # Brackets in an answer are not rich's markup.
        table.add_row(*map(escape, cells))
    return table


@app.command()
def main(
    run: Annotated[Path, typer.Argument(help="The run's folder, e.g. outputs/demo.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="longrl.reward.KEY=VALUE, as in training.")] = None,
    scorers: Annotated[list[str] | None, typer.Option(help="A module or file with your own scorers.")] = None,
    rows: Annotated[list[str] | None, typer.Option(help="A data file; default: the run's data.train_files.")] = None,
    show: Annotated[int, typer.Option(help="Rollouts to show, those whose rewards differ most.")] = 10,
) -> None:
    """Print how the rewards of a run's rollouts would be with other scorers or options."""
    try:
        settings = read_settings(run)
        options = reward_options(settings, overrides or [], scorers or [])
        files = rows or settings["data"]["train_files"]
        changes = rescore(run, options, [files] if isinstance(files, str) else files)
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    console = Console()
    console.print(table_of_tasks(changes))
    console.print(table_of_changes(changes, show))


if __name__ == "__main__":
    app()
