"""Report a supervised run: summary.json, and a plot of its losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import dumps
from verl_longrl.trainer.checkpoints import write_atomic
from verl_longrl.trainer.metrics_log import iterate_metrics

from recipe.longrl.report import read_summary

Points = list[tuple[int, float]]


def write_report(output_dir: Path, command: str, seconds: float) -> dict[str, Any]:
    """Write summary.json and plots/loss.png into the run's folder and print both losses; returns the summary.

    `before` and `after` have the held-out loss, in nats for each token of a response; in a run without held-out
    demonstrations, that of the first and the last step. seconds, command: of the run's last start. A start that found
    the run complete keeps those of the summary.
    """
    losses = read_losses(output_dir)
    split, points = next((split, points) for split, points in losses.items() if points)
    earlier = read_summary(output_dir)
    steps = max(step for each in losses.values() for step, _ in each)
    complete_before = earlier.get("steps") == steps
    summary = {
        "before": {"loss": points[0][1]},
        "after": {"loss": points[-1][1]},
        "steps": steps,
        "seconds": earlier["seconds"] if complete_before else round(seconds, 1),
        "command": earlier["command"] if complete_before else command,
        "loss_of": split,
    }
    write_atomic(output_dir / "summary.json", dumps(summary, indent=2) + "\n")
    plot = output_dir / "plots" / "loss.png"
    _plot(losses, plot)
    print(f"loss, {split}: {points[0][1]:.4f} at step {points[0][0]} -> {points[-1][1]:.4f} at step {points[-1][0]}")
    print(f"summary {output_dir / 'summary.json'}\nplot    {plot}\nweights {output_dir / 'export'}", flush=True)
    return summary


def read_losses(output_dir: Path) -> dict[str, Points]:
    """(step, loss) of held-out demonstrations and of training batches, in order."""
    losses: dict[str, Points] = {"held out": [], "training": []}
    for row in iterate_metrics(output_dir / "metrics.jsonl", ("split", "step")):
        for name, key in (("held out", "val/loss"), ("training", "train/loss")):
            if row.get(key) is not None:
                losses[name].append((row["step"], row[key]))
    return losses


def _plot(losses: dict[str, Points], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, points in losses.items():
        if points:
            axis.plot(*zip(*points, strict=True), "o-" if name == "held out" else "-", label=name, markersize=4)
    axis.set(xlabel="step", ylabel="loss, nats per token", title="supervised fine-tuning")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
