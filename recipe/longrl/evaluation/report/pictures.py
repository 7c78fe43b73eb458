"""Length curves and heat maps as SVG text, to be put into a page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any


def draw_curves(curves: Mapping[str, Any], training_length: int | None) -> str:
    """Score by length, one line for each rule, with intervals and the training length. curves: rule -> curve."""
    figure, axes = _new_figure(6.4, 3.4)
    for rule, curve in curves.items():
        lengths = [int(length) for length in curve["points"]]
        points = list(curve["points"].values())
        means = [100 * point["mean"] for point in points]
        below = [max(0.0, mean - 100 * point["low"]) for mean, point in zip(means, points, strict=True)]
        above = [max(0.0, 100 * point["high"] - mean) for mean, point in zip(means, points, strict=True)]
        axes.errorbar(lengths, means, yerr=[below, above], marker="o", capsize=3, label=rule)
    threshold = 100 * next(iter(curves.values()))["threshold"]
    axes.axhline(threshold, color="grey", linewidth=0.8, linestyle=":", label=f"threshold {threshold:g} %")
    if training_length:
        axes.axvline(training_length, color="black", linewidth=1, linestyle="--", label="training length")
    axes.set_xscale("log", base=2)
    ticks = [int(length) for length in next(iter(curves.values()))["points"]]
    axes.set_xticks(ticks, [_short(tick) for tick in ticks])
    axes.set_ylim(-3, 103)
    axes.set_xlabel("length in tokens")
    axes.set_ylabel("score in per cent")
    axes.legend(fontsize="small")
    return _svg(figure)


def draw_heat_map(heat_map: Mapping[str, Any]) -> str:
    """Score by depth of the evidence and length; classes without answers are blank."""
    lengths, depths = heat_map["lengths"], heat_map["depths"]
    figure, axes = _new_figure(1.6 + 0.7 * len(lengths), 3.6)
    values = [[float("nan") if mean is None else 100 * mean for mean in line] for line in heat_map["mean"]]
    image = axes.imshow(values, aspect="auto", vmin=0, vmax=100, cmap="RdYlGn")
    axes.set_xticks(range(len(lengths)), [_short(length) for length in lengths])
    axes.set_yticks(range(len(depths)), [f"{100 * depth:.0f} %" for depth in depths])
    axes.set_xlabel("length in tokens")
    axes.set_ylabel("depth of the evidence")
    figure.colorbar(image, label="score in per cent")
    return _svg(figure)


def _new_figure(width: float, height: float) -> tuple[Any, Any]:
    # Without pyplot there is neither a display nor a figure that stays in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _short(tokens: int) -> str:
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else f"{tokens:,}"
