"""Length generalisation of finished runs: scores by length, relative to the shortest form, and beyond training.

For each set with lengths that any of the runs has, under each rule:

    curve       means with clustered intervals, of all runs side by side
    relative    mean / mean at the shortest length, and, for LongReason, mean / mean of `expanded` (arXiv 2501.15089):
                the questions without distracting text, so what is left is the cost of the length
    effective   the longest length whose mean exceeds the threshold (RULER's 85.6 %, arXiv 2404.06654)
    slope       least-squares change of the mean for each doubling of the length, from the training length on, with an
                interval that is clustered by document or question

Runs must have asked the same benchmark. What else differs and matters (data, seed, options, sampling) is listed.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from verl_longrl.data.jsonl import dumps
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation.compare import EXPECTED, CompareError, SetFolder, read_set, set_folders
from recipe.longrl.evaluation.figures import THRESHOLD
from recipe.longrl.evaluation.plan import different_fields
from recipe.longrl.evaluation.report import pictures
from recipe.longrl.evaluation.report.markdown import make_table, percent, with_interval
from recipe.longrl.evaluation.score import TABLES
from recipe.longrl.evaluation.statistics import effective_length, normal_interval
from recipe.longrl.run_identity import STORED

UNCUT = "expanded"
"""LongReason's cell without distracting text."""
IGNORED = (*EXPECTED, "profile", "source", "unstated", "average", "prompts_sha256", "model.server", "options.rule")
"""Fields of a record that may differ without making two curves different questions."""


def compare_lengths(
    runs: Sequence[Path], training_length: int | None = None, threshold: float = THRESHOLD
) -> dict[str, Any]:
    """The report of runs, the first of which the others are compared with, as the content of length.json.

    training_length: tokens; None: that of each model which is one of our runs. threshold: from 0 to 1.
    Raises CompareError for runs that are not scored, have no set with lengths, or asked different benchmarks.
    """
    names = _short_names(runs)
    found = {name: _sets_with_lengths(run) for name, run in zip(names, runs, strict=True)}
    sets = dict.fromkeys(name for of_run in found.values() for name in of_run)
    if not sets:
        raise CompareError(f"{', '.join(map(str, runs))}: no set has lengths. Fix: run ruler, ruler_qa, mrcr, ...")
    return {
        "threshold": threshold,
        "sets": {
            name: _compare_set(
                name, {run: of_run[name] for run, of_run in found.items() if name in of_run}, training_length, threshold
            )
            for name in sets
        },
    }


def write_length_report(report: Mapping[str, Any], folder: Path) -> Path:
    """Write length.json, length.md and a picture for each set and rule into a folder. Returns length.md."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = list(length_lines(report))
    for name, of_set in report["sets"].items():
        lines += ["", f"## {name}"]
        for rule in of_set["rules"]:
            curves = {
                run: {**figure["rules"][rule], "threshold": report["threshold"]}
                for run, figure in of_set["runs"].items()
                if rule in figure["rules"]
            }
            picture = f"length-{name}-{rule}.svg"
            write_atomic(folder / picture, pictures.draw_curves(curves, _one_training_length(of_set)))
            lines += ["", f"![{name}, rule {rule}: score by length]({picture})"]
    write_atomic(folder / "length.json", dumps(report, indent=1) + "\n")
    write_atomic(folder / "length.md", "\n".join(["# Length generalisation", "", *lines]) + "\n")
    return folder / "length.md"


def length_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The tables as Markdown."""
    yield "Scores in per cent with 95 % intervals; lengths in tokens. Slope: points for each doubling of the length."
    for name, of_set in report["sets"].items():
        yield from ("", f"### {name}", "")
        for run, figure in of_set["runs"].items():
            trained = figure["training_length"]
            yield f"- {run}: {figure['model']}, training length {f'{trained:,}' if trained else 'unknown'}"
            for field, (first, other) in figure["differs"].items():
                yield f"- **differs from {next(iter(of_set['runs']))}**: {field} = {first!r}, here {other!r}"
        lengths = sorted({int(at) for figure in of_set["runs"].values() for at in _lengths(figure)})
        trained = _one_training_length(of_set)
        header = [f"{at:,}{' (beyond training)' if trained and at > trained else ''}" for at in lengths]
        yield ""
        yield from make_table(
            ("rule", "run", *header, "effective length", "slope beyond training"),
            (_curve_cells(rule, run, figure, lengths) for rule, run, figure in _curves(of_set)),
        )
        for title, key in (("shortest", "relative_to_shortest"), (f"`{UNCUT}`", "relative_to_expanded")):
            if any(figure[key] for _, _, figure in _curves(of_set)):
                yield from ("", f"Relative to the {title}:", "")
                yield from make_table(
                    ("rule", "run", *header),
                    (
                        [rule, run, *(percent((figure[key] or {}).get(str(at))) for at in lengths)]
                        for rule, run, figure in _curves(of_set)
                    ),
                )


def find_training_length(record: Mapping[str, Any]) -> int | None:
    """The longest prompt, in tokens, that the run of a set's model was trained on (data.max_prompt_length); None if the
    model is not in a run's folder."""
    model = Path(str(record["model"].get("model", ""))).resolve()
    for folder in (model, *list(model.parents)[:4]):
        if (folder / STORED).is_file():
            try:
                length = yaml.safe_load((folder / STORED).read_text())["data"]["max_prompt_length"]
            except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
                return None
            return length if isinstance(length, int) else None
    return None


def slope_beyond(points: Iterable[tuple[int, float, str]], training_length: int | None) -> dict[str, float] | None:
    """The least-squares slope of the lengths' means over log2(length), with a clustered interval.

    points: (length in tokens, score, cluster) of each answer; those from the training length on are used. With weights
    w_L of the lengths, slope = sum of w_L * mean_L, so answer i adds w_L / n_L * (s_i - mean_L) to its cluster's share
    of the error. None with fewer than two such lengths or two clusters, or without a training length.
    """
    by_length: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for length, score, cluster in points:
        if training_length is not None and length >= training_length:
            by_length[length].append((score, cluster))
    if len(by_length) < 2:
        return None
    means = {at: math.fsum(score for score, _ in scored) / len(scored) for at, scored in by_length.items()}
    doublings = {at: math.log2(at) for at in by_length}
    centre = math.fsum(doublings.values()) / len(doublings)
    spread = math.fsum((x - centre) ** 2 for x in doublings.values())
    weights = {at: (x - centre) / spread for at, x in doublings.items()}
    clusters: dict[str, float] = defaultdict(float)
    for at, scored in by_length.items():
        for score, cluster in scored:
            clusters[cluster] += weights[at] / len(scored) * (score - means[at])
    number = len(clusters)
    if number < 2:
        return None
    error = math.sqrt(math.fsum(total**2 for total in clusters.values()) * number / (number - 1))
    slope = math.fsum(weights[at] * means[at] for at in means)
    interval = normal_interval(slope, error)
    return {"mean": slope, "standard_error": error, "low": interval.low, "high": interval.high}


def _sets_with_lengths(run: Path) -> dict[str, tuple[SetFolder, dict[str, Any]]]:
    """The scored sets of a run that have lengths, with their tables."""
    found = {}
    for name, folder in set_folders(run).items():
        scored = read_set(folder)
        tables = json.loads((folder / TABLES).read_text())
        if any(tables["curves"].values()):
            found[name] = (scored, tables)
    return found


def _compare_set(
    name: str,
    runs: Mapping[str, tuple[SetFolder, dict[str, Any]]],
    training_length: int | None,
    threshold: float,
) -> dict[str, Any]:
    first = next(iter(runs.values()))[0].record
    described: dict[str, dict[str, Any]] = {}
    for run, (scored, tables) in runs.items():
        if scored.record["benchmark"] != first["benchmark"]:
            raise CompareError(
                f"{scored.folder}: benchmark = {scored.record['benchmark']}, but {next(iter(runs))} asked "
                f"{first['benchmark']} in set {name}. Fix: compare runs of one benchmark"
            )
        trained = training_length or find_training_length(scored.record)
        different = different_fields(first, scored.record)
        described[run] = {
            "model": scored.record["model"].get("model"),
            "revision": scored.record["model"].get("revision", ""),
            "training_length": trained,
            "failed": tables["failed"],
            "differs": {field: list(values) for field, values in different.items() if field not in IGNORED},
            "rules": {
                rule: _describe_rule(rule, scored, tables, trained, threshold)
                for rule, curve in tables["curves"].items()
                if curve
            },
        }
    rules = dict.fromkeys(rule for figure in described.values() for rule in figure["rules"])
    return {"benchmark": first["benchmark"], "rules": [*rules], "runs": described}


def _describe_rule(
    rule: str, scored: SetFolder, tables: Mapping[str, Any], trained: int | None, threshold: float
) -> dict[str, Any]:
    curve, uncut = tables["curves"][rule], tables["cells"][rule].get(UNCUT)
    means = {int(at): point["mean"] for at, point in curve["points"].items()}
    answers = [
        (line["length"], line["scores"][rule], line["cluster"])
        for line in scored.answers.values()
        if line["length"] is not None
    ]
    base = uncut["mean"] if uncut else 0.0
    return {
        "points": curve["points"],
        "relative_to_shortest": curve["relative_to_shortest"],
        "relative_to_expanded": {str(at): mean / base for at, mean in means.items()} if base else None,
        "effective_length": effective_length(means, threshold),
        "slope_beyond_training": slope_beyond(answers, trained),
    }


def _curves(of_set: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(rule, run, figures), the runs of one rule together."""
    for rule in of_set["rules"]:
        for run, figure in of_set["runs"].items():
            if rule in figure["rules"]:
                yield rule, run, figure["rules"][rule]


def _curve_cells(rule: str, run: str, figure: Mapping[str, Any], lengths: Sequence[int]) -> list[str]:
    effective, slope = figure["effective_length"], figure["slope_beyond_training"]
    scores = [with_interval(figure["points"].get(str(at))) for at in lengths]
    return [rule, run, *scores, f"{effective:,}" if effective else "none", with_interval(slope)]


def _lengths(figure: Mapping[str, Any]) -> set[str]:
    return {at for of_rule in figure["rules"].values() for at in of_rule["points"]}


def _one_training_length(of_set: Mapping[str, Any]) -> int | None:
    """The longest training length of the runs; None if it is unknown for all."""
    known: list[int] = [figure["training_length"] for figure in of_set["runs"].values() if figure["training_length"]]
    return max(known, default=None)


def _short_names(runs: Sequence[Path]) -> list[str]:
    """The folders' own names where these differ, else their paths."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]
