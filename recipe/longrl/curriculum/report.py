"""Report a curriculum: each task's correct answers before the first stage, after every stage, and over all steps.

Stages of supervised fine-tuning have no answers; their losses are shown instead.
"""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from verl_longrl.data.jsonl import dumps
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl import report as run_report
from recipe.longrl.curriculum.plan import CurriculumPlan
from recipe.longrl.sft import report as sft_report


def write_report(plan: CurriculumPlan, command: str) -> dict[str, Any]:
    """Write summary.json and plots/curriculum.png into the plan's folder and print the table; returns the summary.

    `before` is the first validation of the first stage, `after` the last validation of the last stage, without stages
    of supervised fine-tuning, unless there are no others.
    """
    summaries = {stage.name: json.loads((stage.folder / "summary.json").read_text()) for stage in plan.stages}
    ordered = list(summaries.values())
    with_answers = {stage.name: summaries[stage.name] for stage in plan.stages if stage.sft is None}
    shown = list(with_answers.values()) or ordered
    summary = {
        "before": shown[0]["before"],
        "after": shown[-1]["after"],
        "steps": sum(stage["steps"] for stage in ordered),
        "seconds": round(sum(json.loads(stage.marker.read_text())["seconds"] for stage in plan.stages), 1),
        "command": command,
        "stages": {
            stage.name: {**summaries[stage.name], **json.loads(stage.marker.read_text())} for stage in plan.stages
        },
    }
    path = plan.folder / "summary.json"
    write_atomic(path, dumps(summary, indent=2) + "\n")
    _print(plan, summaries)
    if with_answers:
        _print_answers(plan.name, with_answers)
    _plot(plan, _tasks(with_answers) if with_answers else [])
    print(f"summary {path}\nplot    {plan.folder / 'plots' / 'curriculum.png'}\nweights {plan.stages[-1].export}")
    return summary


def _tasks(summaries: dict[str, Any]) -> list[str]:
    """Metrics of answers that every stage has, in the order of the first stage, with that of all tasks last."""
    first, *others = (summary["after"] for summary in summaries.values())
    tasks = [name for name in first if name.endswith("/answer") and all(name in after for after in others)]
    return [*tasks, "answer"]


def _print(plan: CurriculumPlan, summaries: dict[str, Any]) -> None:
    for stage in plan.stages:
        if stage.sft is not None:
            before, after = (summaries[stage.name][when]["loss"] for when in ("before", "after"))
            print(f"{stage.name}: loss, {summaries[stage.name]['loss_of']}, {before:.3f} -> {after:.3f}")


def _print_answers(name: str, summaries: dict[str, Any]) -> None:
    table = Table(title=f"{name}: correct answers, held out", title_justify="left")
    for column in ("task", "before", *summaries):
        table.add_column(column, justify="left" if column == "task" else "right")
    first = next(iter(summaries.values()))
    for task in _tasks(summaries):
        values = [first["before"], *(summary["after"] for summary in summaries.values())]
        label = task.removesuffix("/answer") if task != "answer" else "all"
        table.add_row(label, *(f"{value[task]:.3f}" if task in value else "" for value in values))
    Console().print(table)


def _plot(plan: CurriculumPlan, tasks: list[str]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 5), layout="constrained")
    losses = axis.twinx() if any(stage.sft is not None for stage in plan.stages) else None
    start = 0
    lines: dict[str, list[tuple[int, float]]] = {}
    for stage in plan.stages:
        last = 0
        if losses is not None and stage.sft is not None:
            for name, found in sft_report.read_losses(stage.folder).items():
                style = "o:" if name == "held out" else ":"
                points = [(start + step, loss) for step, loss in found]
                if points:
                    losses.plot(*zip(*points, strict=True), style, label=f"loss, {name}", color="grey", markersize=3)
                last = max([last, *(step for step, _ in found)])
        for row in run_report.read_metrics(stage.folder) if stage.sft is None else ():
            last = max(last, row["step"])
            at = start + row["step"]
            if row["split"] == "train":
                if (answer := row.get(f"{run_report.SAMPLED}/answer")) is not None:
                    lines.setdefault("training, all sampled rollouts", []).append((at, answer))
            else:
                for task in tasks:
                    if f"val/{task}" in row:
                        lines.setdefault(task, []).append((at, row[f"val/{task}"]))
        axis.axvline(start, color="grey", linewidth=0.8)
        axis.text(start, 1.06, f" {stage.name}", va="top", color="grey")
        start += last
    for name, points in lines.items():
        held_out = name.endswith("answer")
        label = f"held-out {name.removesuffix('answer').rstrip('/') or 'all'}" if held_out else name
        axis.plot(*zip(*points, strict=True), "o-" if held_out else "-", label=label, markersize=4, linewidth=1.2)
    axis.set(xlabel="step", ylabel="correct answers", ylim=(-0.03, 1.08), title=plan.name)
    axis.grid(alpha=0.3)
    if lines:
        axis.legend()
    if losses is not None:
        losses.set_ylabel("loss of supervised stages, nats per token")
        losses.legend(loc="upper right")
    path = plan.folder / "plots" / "curriculum.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
