"""What was found, as tables on the terminal, report.md with plots.png, and report.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from rich.console import Group as Together
from rich.table import Table as Shown
from verl_longrl.data.jsonl import dumps

from data_gen.diagnose.failure_modes import MODES
from data_gen.diagnose.sources import Filtered, Source
from data_gen.diagnose.tally import EXAMPLES, UNKNOWN, Group, Tally, length_name
from data_gen.multitask.difficulty import Level

REPORT, MARKDOWN, PLOTS = "report.json", "report.md", "plots.png"


class Table(NamedTuple):
    """A table of texts."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]


class Report:
    """sources: what was read. weights: of the next round, by task."""

    def __init__(self, sources: Sequence[Source], tally: Tally, filtered: Filtered, weights: Mapping[str, float]):
        self.sources, self.tally, self.filtered, self.weights = sources, tally, filtered, weights
        self.tasks = sorted(tally.by_task)
        self.lengths = sorted(tally.by_length, key=lambda low: (low is None, low or 0))
        self.difficulties = [name for name in (*get_args(Level), UNKNOWN) if name in tally.by_difficulty]
        self.modes = [name for name in MODES if any(tally.modes[task][name] for task in self.tasks)]

    def content(self) -> dict[str, Any]:
        """Everything, for report.json."""
        tally = self.tally
        return {
            "sources": [{"path": str(source.path), "kind": source.kind} for source in self.sources],
            "by_task": {task: tally.by_task[task].row() for task in self.tasks},
            "by_length": {length_name(low): tally.by_length[low].row() for low in self.lengths},
            "by_difficulty": {name: tally.by_difficulty[name].row() for name in self.difficulties},
            "by_task_and_length": {
                task: {
                    length_name(low): tally.by_task_length[task, low].row()
                    for low in self.lengths
                    if (task, low) in tally.by_task_length
                }
                for task in self.tasks
            },
            "failure_modes": {
                task: {
                    name: {"responses": tally.modes[task][name], "examples": tally.examples[task, name]}
                    for name in self.modes
                    if tally.modes[task][name]
                }
                for task in self.tasks
            },
            "filtered_groups": {
                task: {
                    "groups": number,
                    "all_right": self.filtered.all_right[task],
                    "all_wrong": self.filtered.all_wrong[task],
                }
                for task, number in sorted(self.filtered.groups.items())
            },
            "next_weights": dict(self.weights),
        }

    def tables(self, examples: int = EXAMPLES) -> list[Table]:
        """Everything for people, with so many examples of each mode; where nothing is known there is no table."""
        tally = self.tally
        found = [
            _groups("pass rate by task", "task", {task: tally.by_task[task] for task in self.tasks}),
            _groups(
                "by prompt length (tokens)", "length", {length_name(low): tally.by_length[low] for low in self.lengths}
            ),
            _groups("by difficulty", "difficulty", {name: tally.by_difficulty[name] for name in self.difficulties}),
            self._crossed(),
            self._ends(examples),
        ]
        if self.filtered.groups:
            rows = [
                [task, *(f"{counts[task]:,}" for counts in vars(self.filtered).values())]
                for task in sorted(self.filtered.groups)
            ]
            columns = ("task", "groups", "all right", "all wrong")
            found.append(Table("replaced in training, as all rewards were equal (in no other table)", columns, rows))
        return [table for table in found if [row[0] for row in table.rows] not in ([], [UNKNOWN])]

    def _crossed(self) -> Table:
        rows = [
            [task, *(_rate(self.tally.by_task_length.get((task, low))) for low in self.lengths)] for task in self.tasks
        ]
        known = self.lengths != [None]
        return Table("pass rate by task and length", ("task", *map(length_name, self.lengths)), rows if known else [])

    def _ends(self, examples: int) -> Table:
        rows = []
        for task in self.tasks:
            counts = self.tally.modes[task]
            for name in self.modes:
                if counts[name]:
                    ids = self.tally.examples[task, name] if name != "right" else []
                    share = f"{counts[name] / counts.total():.1%}"
                    rows.append([task, name, f"{counts[name]:,}", share, " ".join(ids[:examples])])
        return Table("how responses end", ("task", "mode", "responses", "share", "examples"), rows)

    def shown(self) -> Together:
        """The tables for a terminal."""
        result = []
        for table in self.tables(examples=1):
            shown = Shown(title=table.title, title_justify="left")
            for number, column in enumerate(table.columns):
                is_text = number == 0 or column in ("mode", "examples")
                shown.add_column(column, justify="left" if is_text else "right", no_wrap=number == 0, overflow="fold")
            for row in table.rows:
                shown.add_row(*row)
            result.append(shown)
        return Together(*result)

    def write(self, folder: Path) -> None:
        """report.json, report.md and plots.png in the folder."""
        (folder / REPORT).write_text(dumps(self.content(), indent=1) + "\n")
        text = ["# Diagnosis", ""]
        text += [f"- {source.path} ({source.kind})" for source in self.sources]
        text += ["", "A prompt's pass rate p is the mean of what its answers earn; learnable is the mean of"]
        text += ["27/4 v (1 - p), v the variance within a prompt; modes: see data_gen/diagnose/failure_modes.py."]
        for table in self.tables():
            text += ["", f"## {table.title}", "", *_markdown(table)]
        text += ["", f"![pass rates and failures]({PLOTS})", ""]
        (folder / MARKDOWN).write_text("\n".join(text))
        self._plot(folder / PLOTS)

    def _plot(self, path: Path) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import numpy as np
        from matplotlib import colormaps, pyplot

        tally, tasks = self.tally, self.tasks[::-1]
        figure, (left, middle, right) = pyplot.subplots(
            1, 3, figsize=(17, 1.5 + 0.4 * max(5, len(tasks))), layout="constrained", sharey=True
        )
        left.barh(tasks, [tally.by_task[task].row()["pass_rate"] or 0.0 for task in tasks])
        left.set(xlabel="pass rate", xlim=(0, 1), title="by task")
        start = np.zeros(len(tasks))
        for name in self.modes:
            share = np.array([tally.modes[task][name] / tally.modes[task].total() for task in tasks])
            middle.barh(tasks, share, left=start, label=name, color=colormaps["tab20"](MODES.index(name)))
            start += share
        middle.set(xlabel="share of responses", xlim=(0, 1), title="how they end")
        middle.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=5, fontsize="small")
        rates = [
            [tally.by_task_length.get((task, low), Group()).row()["pass_rate"] for low in self.lengths]
            for task in tasks
        ]
        image = right.imshow(np.array(rates, dtype=float), vmin=0, vmax=1, aspect="auto", cmap="viridis")
        right.set_xticks(range(len(self.lengths)), list(map(length_name, self.lengths)))
        right.set(xlabel="prompt tokens", title="pass rate by task and length")
        figure.colorbar(image, ax=right)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


def _groups(title: str, kind: str, groups: Mapping[str, Group]) -> Table:
    rows = []
    for name, group in groups.items():
        row = group.row()
        counts = (f"{row[key]:,}" for key in ("solved", "unsolved", "unscored"))
        learnable = "" if row["learnable"] is None else f"{row['learnable']:.3f}"
        rows.append([name, f"{group.prompts:,}", _rate(group), learnable, *counts])
    return Table(title, (kind, "prompts", "pass rate", "learnable", "solved", "unsolved", "unscored"), rows)


def _rate(group: Group | None) -> str:
    return f"{group.rates / group.prompts:.3f}" if group and group.prompts else ""


def _markdown(table: Table) -> list[str]:
    cells = [table.columns, ["---"] * len(table.columns), *table.rows]
    return [f"| {' | '.join(row)} |" for row in cells]
