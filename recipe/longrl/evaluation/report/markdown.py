"""The tables of a report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

JUDGED = "The published figures of this benchmark come from a judge; no judge was used here."


CONTAMINATION = (
    "set",
    "rule",
    "score",
    "closed book",
    "score - closed book",
    "right without documents",
    "score of the other rows",
    "questions in training files",
    "contexts with 13 words of training files",
)
"""Columns of the table about contamination."""


def write_markdown(report: Mapping[str, Any]) -> str:
    """All tables of report.json."""
    lines = ["# Evaluation", "", "Scores in per cent with 95 % intervals. Failed answers count as 0.", ""]
    lines += headline_table(report["sets"])
    for profile, average in report["averages"].items():
        missing = f"not reported, since these have no headline: {', '.join(average['missing'])}"
        value = missing if average["mean"] is None else percent(average["mean"])
        lines += ["", f"Mean of the sets of profile {profile}: {value}"]
    if report["contamination"]:
        lines += ["", *make_table(CONTAMINATION, contamination_cells(report["contamination"]))]
    for name, tables in report["sets"].items():
        lines += ["", f"## {name} ({tables['profile']})", "", *_set_lines(tables)]
    return "\n".join(lines) + "\n"


def headline_table(sets: Mapping[str, Any]) -> Iterator[str]:
    """One line for each set. sets: name -> tables."""
    header = ("set", "profile", "rule", "score", "planned", "scored", "cut", "failed", "over window")
    return make_table(header, (_headline_cells(name, tables) for name, tables in sets.items()))


def comparison_lines(comparison: Mapping[str, Any]) -> Iterator[str]:
    """A comparison of two runs: first the settings in which they differ, then the paired figures."""
    for name, result in comparison.items():
        a, b = result["models"]
        yield from (f"## {name}: a = {a}, b = {b}", "")
        for setting, (first, second) in result["settings_that_differ"].items():
            yield f"- differs: {setting} = {first!r} in a, {second!r} in b"
        if result["only_in_a"] or result["only_in_b"]:
            yield f"- left out: {result['only_in_a']} answers of a and {result['only_in_b']} of b, on other questions"
        if any(result["failed"]):
            yield f"- failed answers, counted as 0: {result['failed'][0]} of a, {result['failed'][1]} of b"
        yield ""
        yield from make_table(
            ("rule", "answers", "a", "b", "b - a", "wins of b", "ties", "losses", "McNemar p"),
            (_comparison_cells(rule, figure) for rule, figure in result["rules"].items()),
        )
        yield ""


def make_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def with_interval(figure: Mapping[str, Any] | None) -> str:
    """Mean and interval in per cent: "81.20 [78.31, 84.09]"."""
    return "-" if figure is None else f"{percent(figure['mean'])} [{percent(figure['low'])}, {percent(figure['high'])}]"


def contamination_cells(contamination: Mapping[str, Any]) -> Iterator[list[str]]:
    """The rows below `CONTAMINATION`, one for each set of which something is known."""
    for name, known in contamination.items():
        cells = [name, *["-"] * 6]
        if closed := known.get("closed_book"):
            figure = closed["rules"][closed["rule"]]
            cells[1:7] = [
                closed["rule"],
                percent(figure["b"]),
                percent(figure["a"]),
                with_interval({**figure, "mean": figure["difference"]}),
                percent(figure["right_without"]),
                with_interval(figure["others"]),
            ]
        overlap = known.get("overlap")
        yield [*cells, *(percent(overlap[part]["share"]) if overlap else "-" for part in ("question", "context"))]


def _comparison_cells(rule: str, figure: Mapping[str, Any]) -> list[str]:
    difference = with_interval({**figure, "mean": figure["difference"]})
    p = "-" if figure["mcnemar_p"] is None else f"{figure['mcnemar_p']:.3g}"
    counts = [str(figure[name]) for name in ("wins", "ties", "losses")]
    return [rule, str(figure["n"]), percent(figure["a"]), percent(figure["b"]), difference, *counts, p]


def _headline_cells(name: str, tables: Mapping[str, Any]) -> list[str]:
    headline, window = tables["headline"], tables["over_window"]
    score = with_interval(headline) if headline else f"no headline: {tables['no_headline_because']}"
    over = f"{window['skipped']} skipped, {window['cut_in_the_middle']} cut ({window['policy']})"
    rule = headline["rule"] if headline else "-"
    counts = [str(tables[state]) for state in ("planned", "scored", "cut", "failed")]
    return [name, tables["profile"], rule, score, *counts, over]


def _set_lines(tables: Mapping[str, Any]) -> Iterator[str]:
    rules = tables["rules"]
    yield from make_table(
        ("rule", "score", "standard error", "interval", "answers", "clusters"),
        (
            [
                rule,
                with_interval(figure),
                percent(figure["standard_error"]),
                figure["interval"],
                figure["n"],
                figure["clusters"],
            ]
            for rule, figure in rules.items()
        ),
    )
    if tables["published_figures_are_judged"]:
        yield ""
        yield JUDGED
    if tables["empty"] or tables["token_drift"]:
        yield ""
        yield (
            f"Empty answers: {tables['empty']}. Answers whose prompt the server counted more than 1 % differently: "
            f"{tables['token_drift']}."
        )
    for rule, failure in tables["rule_failed"].items():
        yield ""
        yield f"Rule {rule} failed at {failure['answers']} answers, which count as 0; the first: {failure['first']}"
    yield from _repeat_lines(tables["repeats"])
    yield from _part_lines(tables)
    cells = tables["cells"][next(iter(rules))]
    if len(cells) > 1:
        yield ""
        rows = ([cell, *(with_interval(tables["cells"][rule][cell]) for rule in rules)] for cell in cells)
        yield from make_table(("cell", *rules), rows)
    yield from _curve_lines(tables["curves"])


def _repeat_lines(repeats: Mapping[str, Any]) -> Iterator[str]:
    repeated = {rule: figure for rule, figure in repeats.items() if figure}
    if repeated:
        yield ""
        yield from make_table(
            ("rule", "k", "mean@k", "pass@k", "majority", "by sample"),
            (
                [
                    rule,
                    str(figure["k"]),
                    *(percent(figure[name]) for name in ("mean_at_k", "pass_at_k", "majority")),
                    ", ".join(map(percent, figure["by_sample"])),
                ]
                for rule, figure in repeated.items()
            ),
        )


def _part_lines(tables: Mapping[str, Any]) -> Iterator[str]:
    parts = [
        [rule, name, percent(part["mean"]), str(part["n"])]
        for rule, of_rule in tables["parts"].items()
        for name, part in of_rule.items()
    ]
    if parts:
        yield ""
        yield from make_table(("rule", "part", "mean", "answers"), parts)
    if grounding := tables["grounding"]:
        yield ""
        yield from make_table(
            (f"gold chunks cited ({grounding['rule']})", "score of the headline's rule"),
            [
                ["all", with_interval(grounding["full_recall"])],
                ["some or none", with_interval(grounding["incomplete_recall"])],
            ],
        )


def _curve_lines(curves: Mapping[str, Any]) -> Iterator[str]:
    known = {rule: curve for rule, curve in curves.items() if curve}
    if not known:
        return
    lengths = list(next(iter(known.values()))["points"])
    yield ""
    yield from make_table(
        ("rule", *(f"{int(length):,} tokens" for length in lengths), "effective length"),
        (
            [
                rule,
                *(with_interval(curve["points"][length]) for length in lengths),
                f"{curve['effective_length']:,} (above {percent(curve['threshold'])})"
                if curve["effective_length"]
                else f"none above {percent(curve['threshold'])}",
            ]
            for rule, curve in known.items()
        ),
    )
