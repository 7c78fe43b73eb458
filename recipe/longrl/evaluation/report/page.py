"""The report as one HTML page without any link to elsewhere: tables, pictures, records and costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from recipe.longrl.evaluation.report import markdown, pictures
from recipe.longrl.provenance import read_starts

TEMPLATE = "page.html.jinja"


def write_page(report: Mapping[str, Any], costs: Mapping[str, Any], out: Path) -> str:
    """The text of the page. out: the run's folder, whose starts are listed."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": markdown.percent, "with_interval": markdown.with_interval}
    return environment.get_template(TEMPLATE).render(
        report=report,
        pictures={name: _draw(tables, report["training_length"]) for name, tables in report["sets"].items()},
        records={name: json.dumps(record, indent=1, ensure_ascii=False) for name, record in report["records"].items()},
        costs=costs,
        starts=read_starts(out),
        judged=markdown.JUDGED,
        contamination={
            "header": markdown.CONTAMINATION,
            "rows": [*markdown.contamination_cells(report["contamination"])],
        },
        title=out.name,
    )


def _draw(tables: Mapping[str, Any], training_length: int | None) -> list[tuple[str, Markup]]:
    """(caption, picture) of a set: one with the curves of all rules, and a heat map for each rule."""
    curves = {rule: curve for rule, curve in tables["curves"].items() if curve}
    drawn = [("score by length", Markup(pictures.draw_curves(curves, training_length)))] if curves else []
    for rule, heat_map in tables["heat_maps"].items():
        if heat_map:
            drawn.append((f"score by depth and length, rule {rule}", Markup(pictures.draw_heat_map(heat_map))))
    return drawn
