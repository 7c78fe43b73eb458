"""Report a run from its metrics.jsonl: a table of metrics before and after training, plots, and summary.json.

Means of training rollouts are over all sampled rollouts, including those of groups without signal, which are replaced
before the update.

`python -m recipe.longrl.report RUN_FOLDER` writes the report again at any time, also while the run is training.
"""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from verl_longrl.data.jsonl import dumps
from verl_longrl.trainer.checkpoints import write_atomic
from verl_longrl.trainer.metrics_log import iterate_metrics

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SAMPLED = "reward_before_filter"
"""Prefix of the metrics of all sampled rollouts, including those of replaced groups."""
SHOWN = {
    "context": "context F-beta",
    "recall": "context recall",
    "precision": "context precision",
    "answer": "answer accuracy",
    "format": "format rate",
    "score": "reward",
}


def write_report(output_dir: Path, command: str | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Write summary.json and plots/training.png into the run's folder and print the table; returns the summary.

    `before` and `after` are the first and the last validation; in a run without validation, the first and the last
    training step. command, seconds: of the run's last start; None keeps those of an earlier summary.
    Raises FileNotFoundError when the run has no completed step yet.
    """
    rows = read_metrics(output_dir)
    compared = compare_first_and_last(rows)
    if compared is None:
        raise FileNotFoundError(f"{output_dir}/metrics.jsonl contains no completed step yet")
    earlier = read_summary(output_dir)
    summary = {
        "before": compared.before,
        "after": compared.after,
        "steps": compared.last,
        "seconds": earlier.get("seconds") if seconds is None else round(seconds, 1),
        "command": earlier.get("command") if command is None else command,
    }
    write_atomic(output_dir / "summary.json", dumps(summary, indent=2) + "\n")
    plot = _plot(rows, output_dir / "plots" / "training.png")
    _print(compared, output_dir, plot)
    return summary


def read_summary(output_dir: Path) -> dict[str, Any]:
    """A run's summary.json; {} where it is missing or incomplete."""
    try:
        summary: dict[str, Any] = json.loads((output_dir / "summary.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return summary


class Comparison(NamedTuple):
    """Means of each part at the steps `first` and `last`; `where` says over which rollouts."""

    before: dict[str, float]
    after: dict[str, float]
    first: int
    last: int
    where: str

    def lines(self) -> list[tuple[str, float, float]]:
        """Name, before and after of each part that the table shows."""
        before, after = self.before, self.after
        # The held-out loss of supervised fine-tuning.
        shown = (_shown([before, after]) | {"loss": "loss of demonstrations"}).items()
        return [(label, before[part], after[part]) for part, label in shown if part in before and part in after]


def read_metrics(output_dir: Path) -> list[dict[str, Any]]:
    """The metrics of each step that are compared or plotted.

    A step has hundreds of others, which would not fit into memory for a long run. Values that are not numbers (null)
    are left out.
    """
    rows = []
    for row in iterate_metrics(output_dir / "metrics.jsonl", ("split", "step")):
        reported = {k: v for k, v in row.items() if k.startswith(("val/", f"{SAMPLED}/")) and v is not None}
        rows.append({"split": row["split"], "step": row["step"], **reported})
    return rows


def compare_first_and_last(rows: list[dict[str, Any]], step: int | None = None) -> Comparison | None:
    """Compare the first with the last validation, or training steps in a run without validation; None without either.

    step: ignore later steps.
    """
    rows = [row for row in rows if step is None or row["step"] <= step]
    validations = [row for row in rows if row["split"] == "val"]
    training = [row for row in rows if row["split"] == "train"]
    compared, prefix = (validations, "val") if validations else (training, SAMPLED)
    if not compared:
        return None
    before, after = (_parts(row, prefix) for row in (compared[0], compared[-1]))
    where = "held-out documents" if validations else "training rollouts"
    return Comparison(before, after, compared[0]["step"], compared[-1]["step"], where)


def _parts(row: dict[str, Any], prefix: str) -> dict[str, float]:
    """The values of `<prefix>/<part>` by part; metrics of a single task are named `<task>/<part>`."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in row.items() if name.startswith(f"{prefix}/")}


def _shown(rows: list[dict[str, float]]) -> dict[str, str]:
    """The parts to show and their labels: `SHOWN`, and the reward of each task where there are several.

    Citation metrics are left out where no response cites. `context` decides, because answers that are lists also have
    recall and precision.
    """
    cites = any(row.get("context") for row in rows)
    shown = {part: label for part, label in SHOWN.items() if cites or part not in ("context", "recall", "precision")}
    tasks = sorted({part.removesuffix("/score") for row in rows for part in row if part.endswith("/score")})
    return shown | ({f"{task}/score": f"reward, {task}" for task in tasks} if len(tasks) > 1 else {})


def _print(compared: Comparison, output_dir: Path, plot: Path) -> None:
    title = f"{compared.where}, step {compared.first} -> step {compared.last}"
    table = Table(title=title, title_justify="left")
    for column in ("metric", "before", "after", "change"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for label, before, after in compared.lines():
        table.add_row(label, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}")
    console = Console()
    console.print(table)
    console.print(
        f"summary {output_dir / 'summary.json'}\nplot    {plot}\nrollouts {output_dir / 'rollouts'}", soft_wrap=True
    )


def _plot(rows: list[dict[str, Any]], path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    shown = _shown([_parts(row, SAMPLED) for row in rows])
    lines = -(-len(shown) // 3)
    figure, axes = pyplot.subplots(lines, 3, figsize=(12, 3 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (part, label) in zip(axes.flat, shown.items(), strict=False):
        for split, prefix, style in (("train", SAMPLED, "-"), ("val", "val", "o-")):
            points = [
                (row["step"], row[f"{prefix}/{part}"])
                for row in rows
                if f"{prefix}/{part}" in row and row["split"] == split
            ]
            if points:
                name = "training rollouts" if split == "train" else "held-out documents"
                axis.plot(*zip(*points, strict=True), style, label=name, linewidth=1.2, markersize=4)
        axis.set(title=label, xlabel="step")
        axis.grid(alpha=0.3)
        if not part.endswith("score"):
            axis.set_ylim(-0.03, 1.03)
    axes.flat[0].legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


@app.command()
def main(run: Annotated[Path, typer.Argument(help="The run's folder, e.g. outputs/demo.")]) -> None:
    """Print the table of a run, and write its summary.json and plots again."""
    try:
        write_report(run)
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    app()
