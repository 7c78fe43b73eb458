"""Write the report of a run: report.json and report.md with the tables, and report.html, one page that opens offline.

Equal answers give equal tables. What differs from run to run (seconds, starts) is in cost.json and on the page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from verl_longrl.data.jsonl import dumps
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.evaluation.compare import set_folders
from recipe.longrl.evaluation.contamination import read_contamination
from recipe.longrl.evaluation.cost import NO_RATES, Rates, measure_cost
from recipe.longrl.evaluation.plan import RECORD
from recipe.longrl.evaluation.score import MAX_FAILED, score_set

JSON, MARKDOWN, PAGE, COST = "report.json", "report.md", "report.html", "cost.json"


def write_report(
    out: Path,
    training_length: int | None = None,
    max_failed: float = MAX_FAILED,
    rates: Rates = NO_RATES,
) -> dict[str, Any]:
    """Score every set of a run, and write the report beside them. Returns the content of report.json.

    training_length: tokens of the longest prompts that the model was trained on, marked in the curves.
    """
    from recipe.longrl.evaluation.report import markdown, page

    folders = set_folders(out)
    tables = {name: score_set(folder, max_failed) for name, folder in folders.items()}
    records = {name: json.loads((folder / RECORD).read_text()) for name, folder in folders.items()}
    report = {
        "training_length": training_length,
        "contamination": read_contamination(folders),
        "sets": tables,
        "averages": average_by_profile(tables, records),
        "records": records,
    }
    # As JSON, in which the keys of curves are strings.
    report = json.loads(dumps(report))
    costs = {name: measure_cost(folder, rates) for name, folder in folders.items()}
    write_atomic(out / JSON, dumps(report, indent=1) + "\n")
    write_atomic(out / MARKDOWN, markdown.write_markdown(report))
    write_atomic(out / COST, dumps(costs, indent=1) + "\n")
    write_atomic(out / PAGE, page.write_page(report, costs, out))
    return report


def average_by_profile(tables: dict[str, Any], records: dict[str, Any]) -> dict[str, Any]:
    """The mean of the headlines that each profile averages, by profile; its mean is None while one is missing."""
    averages = {}
    for profile in sorted({record["profile"] for record in records.values()}):
        names = next(record["average"] for record in records.values() if record["profile"] == profile)
        headlines = {name: tables[name]["headline"] if name in tables else None for name in names}
        missing = [name for name, headline in headlines.items() if headline is None]
        means = [headline["mean"] for headline in headlines.values() if headline is not None]
        if names:
            mean = None if missing else sum(means) / len(means)
            averages[profile] = {"sets": names, "mean": mean, "missing": missing}
    return averages
