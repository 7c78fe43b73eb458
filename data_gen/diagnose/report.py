"""The results of a diagnosis: tables on the terminal, report.md with plots.png, and report.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from rich.console import Group
from rich.table import Table
from verl_longrl.data.jsonl import dumps

from data_gen.diagnose.failure_modes import MODES
from data_gen.diagnose.sources import Filtered, ResponseSource
from data_gen.diagnose.tally import EXAMPLES, UNKNOWN, PromptStats, Tally, length_name
from data_gen.multitask.difficulty import Level

REPORT, MARKDOWN, PLOTS = "report.json", "report.md", "plots.png"


class TextTable(NamedTuple):
    """A table of texts."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]


class DiagnosisReport:
    """sources: those that were read. weights: those of the next round, by task."""

    def __init__(
        self, sources: Sequence[ResponseSource], tally: Tally, filtered: Filtered, weights: Mapping[str, float]
    ):
        self.sources, self.tally, self.filtered, self.weights = sources, tally, filtered, weights
        self.tasks = sorted(tally.by_task)
        self.lengths = sorted(tally.by_length, key=lambda low: (low is None, low or 0))
        self.difficulties = [name for name in (*get_args(Level), UNKNOWN) if name in tally.by_difficulty]
        self.modes = [name for name in MODES if any(tally.modes[task][name] for task in self.tasks)]

    def content(self) -> dict[str, Any]:
        """The content of report.json."""
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

    def tables(self, examples: int = EXAMPLES) -> list[TextTable]:
        """All tables that have rows, with this many examples of each failure mode."""
        tally = self.tally
        by_length = {length_name(low): tally.by_length[low] for low in self.lengths}
        tables = [
            _stats_table("pass rate by task", "task", {task: tally.by_task[task] for task in self.tasks}),
            _stats_table("by prompt length (tokens)", "length", by_length),
            _stats_table(
                "by difficulty", "difficulty", {name: tally.by_difficulty[name] for name in self.difficulties}
            ),
            self._by_task_and_length(),
            self._failure_modes(examples),
        ]
        if self.filtered.groups:
            rows = [
                [task, *(f"{counts[task]:,}" for counts in vars(self.filtered).values())]
                for task in sorted(self.filtered.groups)
            ]
            columns = ("task", "groups", "all right", "all wrong")
            title = "groups replaced in training, because all rewards were equal (not in the other tables)"
            tables.append(TextTable(title, columns, rows))
        return [table for table in tables if [row[0] for row in table.rows] not in ([], [UNKNOWN])]

    def _by_task_and_length(self) -> TextTable:
        rows = [
            [task, *(_rate(self.tally.by_task_length.get((task, low))) for low in self.lengths)] for task in self.tasks
        ]
        columns = ("task", *map(length_name, self.lengths))
        return TextTable("pass rate by task and length", columns, rows if self.lengths != [None] else [])

    def _failure_modes(self, examples: int) -> TextTable:
        rows = []
        for task in self.tasks:
            counts = self.tally.modes[task]
            for name in self.modes:
                if counts[name]:
                    ids = self.tally.examples[task, name] if name != "right" else []
                    share = f"{counts[name] / counts.total():.1%}"
                    rows.append([task, name, f"{counts[name]:,}", share, " ".join(ids[:examples])])
        return TextTable("how responses end", ("task", "mode", "responses", "share", "examples"), rows)

    def for_terminal(self) -> Group:
        """The tables for a terminal."""
        result = []
        for table in self.tables(examples=1):
            rich_table = Table(title=table.title, title_justify="left")
            for number, column in enumerate(table.columns):
                is_text = number == 0 or column in ("mode", "examples")
                justify: Literal["left", "right"] = "left" if is_text else "right"
                rich_table.add_column(column, justify=justify, no_wrap=number == 0, overflow="fold")
            for row in table.rows:
                rich_table.add_row(*row)
            result.append(rich_table)
        return Group(*result)

    def write(self, folder: Path) -> None:
        """Write report.json, report.md and plots.png into the folder."""
        (folder / REPORT).write_text(dumps(self.content(), indent=1) + "\n")
        text = ["# Diagnosis", ""]
        text += [f"- {source.path} ({source.kind})" for source in self.sources]
        text += [
            "",
            "A prompt's pass rate p is the mean reward of its answers. learnable is the mean of 27/4 v (1 - p),",
        ]
        text += ["with v the variance of a prompt's rewards. For the modes see data_gen/diagnose/failure_modes.py."]
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
            [tally.by_task_length.get((task, low), PromptStats()).row()["pass_rate"] for low in self.lengths]
            for task in tasks
        ]
        image = right.imshow(np.array(rates, dtype=float), vmin=0, vmax=1, aspect="auto", cmap="viridis")
        right.set_xticks(range(len(self.lengths)), list(map(length_name, self.lengths)))
        right.set(xlabel="prompt tokens", title="pass rate by task and length")
        figure.colorbar(image, ax=right)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


def _stats_table(title: str, kind: str, by_name: Mapping[str, PromptStats]) -> TextTable:
    rows = []
    for name, stats in by_name.items():
        row = stats.row()
        counts = (f"{row[key]:,}" for key in ("solved", "unsolved", "unscored"))
        learnable = "" if row["learnable"] is None else f"{row['learnable']:.3f}"
        rows.append([name, f"{stats.prompts:,}", _rate(stats), learnable, *counts])
    return TextTable(title, (kind, "prompts", "pass rate", "learnable", "solved", "unsolved", "unscored"), rows)


def _rate(stats: PromptStats | None) -> str:
    return f"{stats.rates / stats.prompts:.3f}" if stats and stats.prompts else ""


def _markdown(table: TextTable) -> list[str]:
    cells = [table.columns, ["---"] * len(table.columns), *table.rows]
    return [f"| {' | '.join(row)} |" for row in cells]
