"""Format the results of campaigns as console lines, Markdown and JSON."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from faults.campaign import REFERENCE, Outcome


def format_line(outcome: Outcome) -> str:
    """One line for the console, and one below it for each problem."""
    mark = "FAILED" if outcome.problems else "ok    "
    statuses = " ".join(map(str, outcome.statuses))
    head = f"{mark} {outcome.name:<22} {outcome.seconds:5.0f} s  status {statuses:<12} {outcome.moment}"
    return "\n".join([head.rstrip(), *(f"       {problem}" for problem in outcome.problems)])


class CampaignResult(NamedTuple):
    """The outcomes of a campaign. skipped: fault -> why it could not be tried."""

    command: str
    outcomes: tuple[Outcome, ...]
    skipped: dict[str, str]


def format_markdown(campaigns: Sequence[CampaignResult]) -> str:
    """A page with a table for each campaign."""
    parts = ["# Faults", "", INTRODUCTION]
    for campaign in campaigns:
        parts += ["", f"`{campaign.command}`", "", *HEAD, *map(_row, campaign.outcomes)]
        skipped = [f"Skipped: {name} ({why})." for name, why in campaign.skipped.items()]
        parts += ["", *skipped] if skipped else []
    return "\n".join([*parts, ""])


def _row(outcome: Outcome) -> str:
    difference = "-" if outcome.difference is None else f"{outcome.difference:.1g}"
    statuses, verdict = ", ".join(map(str, outcome.statuses)), "<br>".join(outcome.problems) or "ok"
    cells = (outcome.description, outcome.moment or "-", statuses, difference, f"{outcome.seconds:.0f}", verdict)
    return f"| {' | '.join(cells)} |"


INTRODUCTION = """
Each row is a run of six steps of the demo's model in which a fault happens; then the same command is repeated until it
ends with status 0. At the end, `metrics.jsonl` has every step once, all rollouts are recorded, and prompts, responses
and weights are those of an undisturbed run (rollouts are replayed; the difference of the weights is relative to their
change by training). The newest checkpoint is complete to the bit and named by the tracker. No process, socket, file or
shared memory of the run is left on the machine. No key is in a file or was on a command line. No file of the user was
changed, and nothing listened beyond loopback. Status: 0 done, 2 rejected, 75 to be repeated, 1 stopped for a reported
reason, 143 ended by a signal, -9 killed.
""".strip()


HEAD = (
    "| fault | when | status of each start | difference of weights | seconds | result |",
    "|---|---|---|---|---|---|",
)


def format_json(campaigns: Sequence[CampaignResult]) -> str:
    """The results as JSON."""
    rows = [
        {
            "command": campaign.command,
            "faults": [dataclasses.asdict(each) | {"seconds": round(each.seconds, 1)} for each in campaign.outcomes],
            "skipped": campaign.skipped,
        }
        for campaign in campaigns
    ]
    return json.dumps(rows, indent=1) + "\n"


def read_results(path: Path) -> list[CampaignResult]:
    """The results that `format_json` wrote; empty if the file does not exist."""
    return [
        CampaignResult(each["command"], tuple(Outcome(**_tuples(row)) for row in each["faults"]), each["skipped"])
        for each in (json.loads(path.read_text()) if path.is_file() else [])
    ]


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def append_campaign(campaigns: Sequence[CampaignResult], new: CampaignResult) -> list[CampaignResult]:
    """Append a campaign. Its outcomes replace earlier ones of the same faults."""
    repeated = {outcome.name for outcome in new.outcomes} - {REFERENCE}
    kept = [each._replace(outcomes=tuple(o for o in each.outcomes if o.name not in repeated)) for each in campaigns]
    return [*(each for each in kept if {o.name for o in each.outcomes} - {REFERENCE}), new]
