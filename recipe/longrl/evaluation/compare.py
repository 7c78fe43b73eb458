"""Compare two runs answer by answer: paired differences, flips, and every setting in which the two differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import iterate_jsonl

from recipe.longrl.evaluation import figures
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.judge.verdicts import read_judges
from recipe.longrl.evaluation.log import FAILED
from recipe.longrl.evaluation.plan import RECORD, different_fields
from recipe.longrl.evaluation.score import SCORES

EXPECTED = ("model.model", "model.weights_digest", "model.revision", "model.root")
"""Fields of the record in which two models differ by their nature."""


class CompareError(EvaluationError):
    """Two runs cannot be compared; the message has the fix."""


@dataclass(frozen=True)
class SetFolder:
    """The scored answers of one set of a run."""

    folder: Path
    record: dict[str, Any]
    answers: dict[tuple[str, int], dict[str, Any]]
    """(question, sample) -> line of scores.jsonl. Questions are compared by content, not by name."""


def set_folders(out: Path) -> dict[str, Path]:
    """The folders of a run's planned sets, by name. Raises CompareError without any."""
    folders = {path.parent.name: path.parent for path in sorted(out.glob(f"*/{RECORD}"))}
    if not folders:
        raise CompareError(f"{out}: no planned set there. Fix: the --out folder of a run")
    return folders


def read_set(folder: Path) -> SetFolder:
    """Read a scored set. Raises CompareError if it is not scored."""
    if not (folder / SCORES).is_file():
        raise CompareError(f"{folder}: not scored. Fix: python -m recipe.longrl.evaluation score {folder.parent}")
    answers = {(line["question"], line["sample"]): line for line in iterate_jsonl(folder / SCORES)}
    record = json.loads((folder / RECORD).read_text())
    judges = {judge.figure: judge.values for judge in read_judges(folder)}
    return SetFolder(folder, record | ({"judges": judges} if judges else {}), answers)


def compare_runs(a: Path, b: Path) -> dict[str, Any]:
    """The comparison of every set that both runs have, by name. Raises CompareError without a common set."""
    of_a, of_b = set_folders(a), set_folders(b)
    common = [name for name in of_a if name in of_b]
    if not common:
        raise CompareError(f"{a} has the sets {[*of_a]}, {b} has {[*of_b]}: none in common. Fix: run the same sets")
    return {name: compare_sets(read_set(of_a[name]), read_set(of_b[name])) for name in common}


def compare_sets(a: SetFolder, b: SetFolder) -> dict[str, Any]:
    """Compare two sets on the questions that both have.

    Returns the settings that differ, the numbers of answers that only one has, and for each rule the paired figures and
    the rows whose score changed. Raises CompareError without a common question.
    """
    common = [key for key in a.answers if key in b.answers]
    if not common:
        raise CompareError(f"{a.folder} and {b.folder} have no question in common. Fix: run the same data and options")
    pairs = [(a.answers[key], b.answers[key]) for key in common]
    rules = [rule for rule in pairs[0][0]["scores"] if rule in pairs[0][1]["scores"]]
    differences = different_fields(a.record, b.record)
    return {
        "models": [a.record["model"].get("model"), b.record["model"].get("model")],
        "settings_that_differ": {name: list(values) for name, values in differences.items() if name not in EXPECTED},
        "only_in_a": len(a.answers) - len(common),
        "only_in_b": len(b.answers) - len(common),
        "failed": [sum(line["state"] == FAILED for line in side) for side in zip(*pairs, strict=True)],
        "rules": {rule: _compare_rule(pairs, rule) for rule in rules},
    }


def _compare_rule(pairs: list[tuple[dict[str, Any], dict[str, Any]]], rule: str) -> dict[str, Any]:
    of_a = [a["scores"][rule] for a, _ in pairs]
    of_b = [b["scores"][rule] for _, b in pairs]
    figure = figures.make_comparison(of_a, of_b, [a["cluster"] for a, _ in pairs])
    return figure | {"flips": [_describe_flip(a, b, rule) for a, b in pairs if a["scores"][rule] != b["scores"][rule]]}


def _describe_flip(a: Mapping[str, Any], b: Mapping[str, Any], rule: str) -> dict[str, Any]:
    return {
        "row": a["row"],
        "sample": a["sample"],
        "scores": [a["scores"][rule], b["scores"][rule]],
        "parsed": [a["parsed"][rule], b["parsed"][rule]],
    }
