"""What came of a campaign, for people and for programs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from faults.campaign import Outcome


def line(outcome: Outcome) -> str:
    """One for the terminal, and one below it for each problem."""
    mark = "BROKEN" if outcome.problems else "ok    "
    statuses = " ".join(map(str, outcome.statuses))
    head = f"{mark} {outcome.name:<22} {outcome.seconds:5.0f} s  status {statuses:<12} {outcome.moment}"
    return "\n".join([head.rstrip(), *(f"       {problem}" for problem in outcome.problems)])


def markdown(outcomes: Sequence[Outcome], left_out: Mapping[str, str], command: str) -> str:
    """A page with the table."""
    rows = [
        f"| {outcome.says} | {outcome.moment or '-'} | {', '.join(map(str, outcome.statuses))} | "
        f"{'-' if outcome.difference is None else f'{outcome.difference:.1g}'} | {outcome.seconds:.0f} | "
        f"{'<br>'.join(outcome.problems) or 'as it must be'} |"
        for outcome in outcomes
    ]
    omitted = [f"Left out: {name} ({why})." for name, why in left_out.items()]
    return "\n".join(
        [
            "# Faults",
            "",
            INTRODUCTION,
            "",
            f"`{command}`",
            "",
            "| what happens | when | status of each start | weights differ by | seconds | then |",
            "|---|---|---|---|---|---|",
            *rows,
            *(["", *omitted] if omitted else []),
            "",
        ]
    )


INTRODUCTION = """
Each row is a run of six steps of the demo's model to which something happens; then the same command is repeated until
it ends with status 0. In the end every step is in `metrics.jsonl` once, all rollouts are there, prompts and responses
of every step are those of an undisturbed run (rollouts are replayed), and so are the weights (the difference is given
over how far training moved them); the newest checkpoint is whole to the bit and named by the tracker; no process,
socket, file or shared memory of the run is left on the machine; no key is in a file or was on a command line; no file
of the user's was touched, and nothing listened beyond loopback. Status: 0 done, 2 refused, 75 to be repeated, 1 stopped
for a reason that is told, 143 ended at once by a signal, -9 killed.
""".strip()


def data(outcomes: Sequence[Outcome], left_out: Mapping[str, str], command: str) -> dict[str, Any]:
    """The same as JSON."""
    faults = [dataclasses.asdict(outcome) | {"seconds": round(outcome.seconds, 1)} for outcome in outcomes]
    return {"command": command, "faults": faults, "left_out": dict(left_out)}


def as_json(*args: Any) -> str:
    return json.dumps(data(*args), indent=1) + "\n"
