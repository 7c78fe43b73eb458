"""The page of the experiment: curves while training, held-out questions afterwards, and answers before and after."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from verl_longrl.data.jsonl import iterate_jsonl, read_jsonl
from verl_longrl.data.schema import read_samples

from recipe.longrl.demo.real_model.worlds import TESTS, WORLDS
from recipe.longrl.evaluation.report.markdown import make_table
from recipe.longrl.evaluation.statistics import paired_difference

RELEASED, COLD = "released", "cold"
RULE = "reward"
PARTS = {"recall": "cited recall", "precision": "cited precision", "context": "citations' F2", "answer": "answer right"}
CURVES = ("recall", "context", "answer")
EXAMPLES = 3
MOST_CHARACTERS = 300
"""Of a response in the table of examples."""


@dataclass(frozen=True)
class Answer:
    """A held-out answer: the test file and row that it is to, the parts of its score, and its text."""

    test: str
    row: int
    parts: dict[str, float]
    text: str


@dataclass(frozen=True)
class Measured:
    """Answers and metrics in the folder of a world."""

    answers: dict[str, list[Answer]]
    """RELEASED, COLD or METHOD-SEED -> answers in the order of the rows."""
    metrics: dict[str, list[dict]]
    """METHOD-SEED -> rows of metrics.jsonl."""

    @property
    def methods(self) -> dict[str, list[str]]:
        """Method -> its arms, by seed."""
        arms: dict[str, list[str]] = {}
        for name in self.metrics:
            arms.setdefault(name.rpartition("-")[0], []).append(name)
        return arms

    def scores(self, name: str, test: str, part: str) -> list[float]:
        """A part of the scores of an arm's answers to a test file, row by row."""
        return [answer.parts.get(part, 0.0) for answer in self.answers[name] if answer.test == test]


def measure(folder: Path) -> Measured:
    """Read the folder of a world; arms that are not measured yet are left out."""
    answers = {
        file.parents[1].name: list(_answers(file.parent)) for file in sorted(folder.glob("eval/*/*/scores.jsonl"))
    }
    return Measured(
        answers, {name: read_jsonl(folder / name / "metrics.jsonl") for name in answers if name not in (RELEASED, COLD)}
    )


def _answers(folder: Path) -> Iterator[Answer]:
    texts = {line["row"]: line.get("text", "") for line in iterate_jsonl(folder / "answers.jsonl")}
    for line in iterate_jsonl(folder / "scores.jsonl"):
        test, _, row = line["row"].rpartition("/")
        yield Answer(test, int(row), line["parts"][RULE], texts.get(line["row"], ""))


def write_page(folder: Path, page: Path, worlds: Iterable[str]) -> None:
    """Write real_model_tables.md and a plot of every world into `page`, and print the tables."""
    page.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in worlds:
        measured = measure(folder / name)
        plot = page / f"real_model_{name}.png"
        plot_curves(measured, plot)
        lines += [
            f"## {WORLDS[name].about}",
            "",
            f"![{', '.join(PARTS[part] for part in CURVES)} by step]({plot.name})",
        ]
        lines += ["", "Held-out questions, answered greedily; mean over seeds (and their range).", ""]
        lines += [*score_table(measured), "", *difference_table(measured), ""]
        lines += [*example_table(measured, folder / name / "rows/test/x1.parquet"), "", *cost_lines(measured), ""]
    text = "\n".join(lines)
    (page / "real_model_tables.md").write_text(text)
    print(text)


def score_table(measured: Measured) -> list[str]:
    """Mean scores of the cold start and of each method, by test file."""
    tests = [test for test in TESTS if measured.scores(COLD, test, "answer")]
    rows = []
    for part, label in PARTS.items():
        for method, arms in {"released model": [RELEASED], "cold start": [COLD], **measured.methods}.items():
            means = [[statistics.fmean(measured.scores(arm, test, part)) for arm in arms] for test in tests]
            rows.append([label, method, *(_mean_and_range(each) for each in means)])
    return list(make_table(("", "", *tests), rows))


def _mean_and_range(values: list[float]) -> str:
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def difference_table(measured: Measured) -> list[str]:
    """Paired differences on the same questions, with 95 % intervals clustered by question over all seeds."""
    methods = measured.methods
    pairs = [(method, arms, "cold start", [COLD] * len(arms)) for method, arms in methods.items()]
    if len(methods) == 2:
        (a, arms_of_a), (b, arms_of_b) = methods.items()
        pairs.append((a, arms_of_a, b, arms_of_b))
    rows = []
    for a, arms_of_a, b, arms_of_b in pairs:
        for part, label in PARTS.items():
            cells = []
            for test in ("x1", "squad"):
                of_a, of_b = (
                    [s for arm in arms for s in measured.scores(arm, test, part)] for arms in (arms_of_a, arms_of_b)
                )
                questions = [number for arm in arms_of_a for number, _ in enumerate(measured.scores(arm, test, part))]
                if not of_a or len(of_a) != len(of_b):
                    cells.append("")
                    continue
                found = paired_difference(of_a, of_b, questions)
                cells.append(f"{found.difference:+.2f} [{found.interval.low:+.2f}, {found.interval.high:+.2f}]")
            rows.append([f"{a} - {b}", label, *cells])
    return list(make_table(("difference", "", "x1", "squad"), rows))


def example_table(measured: Measured, file: Path) -> list[str]:
    """The same questions before and after, for a reader to judge: the first ones, not chosen."""
    last = next(iter(measured.methods.values()))[0]
    first, after = ([answer for answer in measured.answers[name] if answer.test == "x1"] for name in (COLD, last))
    rows = []
    for sample, one, other in zip(read_samples(file), first[:EXAMPLES], after[:EXAMPLES], strict=False):
        gold = f"{sample.ground_truth if isinstance(sample.ground_truth, str) else sample.ground_truth[0]}"
        cited = ", ".join(map(str, sample.ref_chunks or ()))
        rows.append([f"{sample.question} <br> **{gold}**, chunks {cited}", _cell(one), _cell(other)])
    return list(make_table(("question, **gold**", "after the cold start", f"after {last}"), rows))


def _cell(answer: Answer) -> str:
    text = answer.text.strip()
    shown = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
    marks = " ".join(f"{PARTS[part]} {answer.parts.get(part, 0.0):.2g}," for part in ("recall", "answer"))
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " <br> ")
    return f"{escaped} <br> *{marks.rstrip(',')}*"


def cost_lines(measured: Measured) -> list[str]:
    """Seconds of a step, by phase."""
    rows = [row for rows in measured.metrics.values() for row in rows if row["split"] == "train"]
    phases = {
        label: statistics.median(row[key] for row in rows if key in row)
        for label, key in {
            "whole": "timing_s/step",
            "rollouts": "timing_s/gen",
            "update": "timing_s/update_actor",
        }.items()
        if any(key in row for row in rows)
    }
    return (
        [f"Median seconds of a step: {', '.join(f'{name} {value:.0f}' for name, value in phases.items())}."]
        if phases
        else []
    )


def plot_curves(measured: Measured, path: Path) -> None:
    """One panel for each part of the score on the validation questions, one thin line for each seed, means bold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(CURVES), figsize=(12.6, 3.4), layout="constrained")
    for axis, part in zip(axes, CURVES, strict=True):
        for number, (method, arms) in enumerate(measured.methods.items()):
            curves = [_curve(measured.metrics[arm], part) for arm in arms]
            for steps, values in curves:
                axis.plot(steps, values, color=f"C{number}", linewidth=0.8, alpha=0.5)
            common = min(len(steps) for steps, _ in curves)
            mean = np.mean([values[:common] for _, values in curves], axis=0)
            axis.plot(curves[0][0][:common], mean, "o-", color=f"C{number}", label=method, markersize=3)
        axis.set(title=PARTS[part], xlabel="step", ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=110)


def _curve(metrics: list[dict], part: str) -> tuple[list[int], list[float]]:
    # Without one response in the right form there is no such part.
    rows = [row for row in metrics if row["split"] == "val"]
    return [row["step"] for row in rows], [row.get(f"val/{part}", 0.0) for row in rows]
