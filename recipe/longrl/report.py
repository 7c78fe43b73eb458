"""What a run achieved: a table before -> after, plots by step, summary.json. Made from metrics.jsonl alone.

Means of training rollouts are over all that were sampled, those of groups without signal, which are replaced, too.

`python -m recipe.longrl.report RUN_FOLDER` makes them again at any time, also while the run is going.
"""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from verl_longrl.data.jsonl import dumps, iterate_jsonl
from verl_longrl.trainer.checkpoints import write_atomic

SHOWN = {
    "context": "context F-beta",
    "recall": "context recall",
    "precision": "context precision",
    "answer": "answer accuracy",
    "format": "format rate",
    "score": "reward",
}


def write(output_dir: Path, command: str | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Write summary.json and plots/training.png into the run's folder, print the table; returns the summary.

    Before and after are the first and the last validation; in a run without any, the first and the last training
    step. command, seconds: of the training just done (its last start); None keeps what an earlier summary says.
    Raises FileNotFoundError when the run has no complete step yet.
    """
    rows = read(output_dir)
    compared = compare(rows)
    if compared is None:
        raise FileNotFoundError(f"{output_dir}/metrics.jsonl holds no step: the run has not come that far")
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
    """A run's summary.json; {} where there is none, or it was cut off."""
    try:
        found: dict[str, Any] = json.loads((output_dir / "summary.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


class Comparison(NamedTuple):
    """Means by part at the steps `first` and `last`, and in words over what they are."""

    before: dict[str, float]
    after: dict[str, float]
    first: int
    last: int
    where: str

    def lines(self) -> list[tuple[str, float, float]]:
        """Name, before and after of each part that is worth showing."""
        before, after = self.before, self.after
        shown = _shown([before, after]).items()
        return [(label, before[part], after[part]) for part, label in shown if part in before and part in after]


def read(output_dir: Path) -> list[dict[str, Any]]:
    """Of a run's hundreds of metrics a step those that are compared or drawn, so that a long run's fit into memory;
    without those that are no number."""
    return [
        {
            name: value
            for name, value in row.items()
            if name in ("split", "step") or (name.startswith(("val/", "sampled/")) and value is not None)
        }
        for row in iterate_jsonl(output_dir / "metrics.jsonl", ("split", "step"))
    ]


def compare(rows: list[dict[str, Any]], step: int | None = None) -> Comparison | None:
    """The first and the last validation, in a run without any training step; None without either. step: the last one
    that counts."""
    rows = [row for row in rows if step is None or row["step"] <= step]
    validations = [row for row in rows if row["split"] == "val"]
    compared, prefix = (validations, "val") if validations else (rows, "sampled")
    if not compared:
        return None
    before, after = (_parts(row, prefix) for row in (compared[0], compared[-1]))
    where = "held-out documents" if validations else "training rollouts"
    return Comparison(before, after, compared[0]["step"], compared[-1]["step"], where)


def _parts(row: dict[str, Any], prefix: str) -> dict[str, float]:
    """`<prefix>/<part>` -> value under the part's name; parts of single tasks keep `<task>/<part>`."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in row.items() if name.startswith(f"{prefix}/")}


def _shown(rows: list[dict[str, float]]) -> dict[str, str]:
    """`SHOWN`, without what is said of citations where there are none; each task's reward where there are several."""
    cites = any(row.get("context") for row in rows)  # recall and precision are also those of lists
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
    shown = _shown([_parts(row, "sampled") for row in rows])
    lines = -(-len(shown) // 3)
    figure, axes = pyplot.subplots(lines, 3, figsize=(12, 3 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (part, label) in zip(axes.flat, shown.items(), strict=False):
        for split, prefix, style in (("train", "sampled", "-"), ("val", "val", "o-")):
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


def main(run: Annotated[Path, typer.Argument(help="The run's folder, e.g. outputs/demo.")]) -> None:
    """Print the table of a run and write its summary.json and plots again."""
    try:
        write(run)
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
