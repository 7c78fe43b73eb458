"""Report the rows and tokens of a mix by source and task: mix.json, and tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Column, Table
from verl_longrl.data.jsonl import dumps
from verl_longrl.data.schema import Sample

from data_gen.mix.first_pass import Survey

REPORT = "mix.json"


class MixReport:
    """taken: the number of rows taken from each source. Rows by task are counted while they are written (`tally`)."""

    def __init__(self, surveys: Sequence[Survey], taken: Sequence[int]):
        self.surveys, self.taken = surveys, taken
        self._lengths: dict[str, list[int]] = {}

    def tally(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The same samples, counted on the way."""
        for sample in samples:
            self._lengths.setdefault(sample.task, []).append(sample.prompt_tokens or 0)
            yield sample

    def sources(self) -> list[dict[str, Any]]:
        """For each source: rows = usable + the sum of dropped; taken (more than usable if rows repeat)."""
        return [
            {
                "source": survey.source.name,
                "layouts": sorted(set(survey.layouts.values())),
                "rows": survey.rows,
                "dropped": dict(sorted(survey.dropped.items())),
                "usable": len(survey.usable),
                "taken": taken,
                "first_dropped": dict(sorted(survey.first.items())),
            }
            for survey, taken in zip(self.surveys, self.taken, strict=True)
        ]

    def tasks(self) -> dict[str, dict[str, int]]:
        """For each task: the number of rows, and their prompt tokens: sum, mean and maximum."""
        return {
            task: {"rows": len(n), "tokens": sum(n), "mean_tokens": sum(n) // len(n), "longest": max(n)}
            for task, n in sorted(self._lengths.items())
        }

    def write(self, output: Path) -> None:
        """Write mix.json into the folder."""
        content = {"rows": sum(self.taken), "sources": self.sources(), "tasks": self.tasks()}
        (output / REPORT).write_text(dumps(content, indent=1) + "\n")

    def tables(self) -> Group:
        """Tables for a terminal."""
        sources = Table(Column("source", overflow="fold"), "layout", "rows", "dropped", "usable", "taken")
        for entry in self.sources():
            dropped = ", ".join(f"{reason} {number:,}" for reason, number in entry["dropped"].items())
            numbers = (f"{entry[key]:,}" for key in ("usable", "taken"))
            sources.add_row(entry["source"], ", ".join(entry["layouts"]), f"{entry['rows']:,}", dropped, *numbers)
        tasks = Table("task", "rows", "prompt tokens", "mean", "longest")
        for task, entry in self.tasks().items():
            tasks.add_row(task, *(f"{number:,}" for number in entry.values()))
        return Group(sources, tasks)
