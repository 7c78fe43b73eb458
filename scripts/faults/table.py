"""What came of a campaign, for people and for programs."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from faults.campaign import REFERENCE, Outcome


def line(outcome: Outcome) -> str:
    """One for the terminal, and one below it for each problem."""
    mark = "BROKEN" if outcome.problems else "ok    "
    statuses = " ".join(map(str, outcome.statuses))
    head = f"{mark} {outcome.name:<22} {outcome.seconds:5.0f} s  status {statuses:<12} {outcome.moment}"
    return "\n".join([head.rstrip(), *(f"       {problem}" for problem in outcome.problems)])


class Played(NamedTuple):
    """A campaign. left_out: name -> why it could not be tried."""

    command: str
    outcomes: tuple[Outcome, ...]
    left_out: dict[str, str]


def markdown(campaigns: Sequence[Played]) -> str:
    """A page with a table for each."""
    parts = ["# Faults", "", INTRODUCTION]
    for played in campaigns:
        parts += ["", f"`{played.command}`", "", *HEAD, *map(_row, played.outcomes)]
        omitted = [f"Left out: {name} ({why})." for name, why in played.left_out.items()]
        parts += ["", *omitted] if omitted else []
    return "\n".join([*parts, ""])


def _row(outcome: Outcome) -> str:
    difference = "-" if outcome.difference is None else f"{outcome.difference:.1g}"
    statuses, found = ", ".join(map(str, outcome.statuses)), "<br>".join(outcome.problems) or "as it must be"
    cells = (outcome.says, outcome.moment or "-", statuses, difference, f"{outcome.seconds:.0f}", found)
    return f"| {' | '.join(cells)} |"


INTRODUCTION = """
Each row is a run of six steps of the demo's model to which something happens; then the same command is repeated until
it ends with status 0. In the end every step is in `metrics.jsonl` once, all rollouts are there, prompts and responses
of every step are those of an undisturbed run (rollouts are replayed), and so are the weights (the difference is given
over how far training moved them); the newest checkpoint is whole to the bit and named by the tracker; no process,
socket, file or shared memory of the run is left on the machine; no key is in a file or was on a command line; no file
of the user's was touched, and nothing listened beyond loopback. Status: 0 done, 2 refused, 75 to be repeated, 1 stopped
for a reason that is told, 143 ended at once by a signal, -9 killed.
""".strip()


HEAD = (
    "| what happens | when | status of each start | weights differ by | seconds | then |",
    "|---|---|---|---|---|---|",
)


def as_json(campaigns: Sequence[Played]) -> str:
    """The same for programs."""
    rows = [
        {
            "command": played.command,
            "faults": [dataclasses.asdict(each) | {"seconds": round(each.seconds, 1)} for each in played.outcomes],
            "left_out": played.left_out,
        }
        for played in campaigns
    ]
    return json.dumps(rows, indent=1) + "\n"


def read(path: Path) -> list[Played]:
    """What `as_json` wrote; nothing where there is no such file."""
    return [
        Played(each["command"], tuple(Outcome(**_tuples(row)) for row in each["faults"]), each["left_out"])
        for each in (json.loads(path.read_text()) if path.is_file() else [])
    ]


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def followed_by(campaigns: Sequence[Played], new: Played) -> list[Played]:
    """With a new campaign, whose outcomes stand for earlier ones of the same faults."""
    again = {outcome.name for outcome in new.outcomes} - {REFERENCE}
    kept = [each._replace(outcomes=tuple(o for o in each.outcomes if o.name not in again)) for each in campaigns]
    return [*(each for each in kept if {o.name for o in each.outcomes} - {REFERENCE}), new]
