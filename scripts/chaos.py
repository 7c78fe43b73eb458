"""Faults, drawn by a seed, that happen to real runs of a tiny model; and whether all is well after each.

    python scripts/chaos.py --minutes 25 --seed 7
    python scripts/chaos.py --only bit_in_shard --only kill_gcs
    python scripts/chaos.py --list

Needs no GPU: two cores and 8 GiB of memory, and a few minutes for each fault. What must hold of a run after a fault:
scripts/faults/invariants.py. The faults: scripts/faults/kinds.py. Status 1 if anything did not hold.
"""

import datetime
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from faults import table
from faults.campaign import Campaign, drawn
from faults.kinds import FAULTS


def main(
    minutes: Annotated[float, typer.Option(help="No fault is begun later than this after the start.")] = 25.0,
    seed: Annotated[int, typer.Option(help="Of the faults' order, and of the moment of each.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Only the fault of this name; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs; those that went well are removed.")] = Path(
        "outputs/chaos"
    ),
    results: Annotated[Path | None, typer.Option(help="Table (.md, .json); what is tried again is replaced.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the faults and do nothing.")] = False,
) -> None:
    """Run the reference, then one fault after the other; print a line for each and a table at the end."""
    if list_:
        width = max(len(fault.name) for fault in FAULTS)
        print(*(f"{fault.name:<{width}}  {fault.says}" for fault in FAULTS), sep="\n")
        return
    try:
        faults = drawn(seed, only or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error

    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{datetime.datetime.now():%Y%m%d-%H%M}-", dir=out.absolute()))
    print(f"seed {seed}, runs in {folder}; the reference first", flush=True)
    campaign = Campaign(folder, seed)
    outcomes = [campaign.begin()]
    print(table.line(outcomes[0]), flush=True)
    if outcomes[0].problems:
        sys.exit("the undisturbed run is broken already")
    left_out: dict[str, str] = {}
    for fault in faults:
        if time.monotonic() - began > 60 * minutes:
            print(f"the time is over; not drawn: {len(faults) - len(outcomes) - len(left_out) + 1}")
            break
        if why := fault.impossible():
            left_out[fault.name] = why
            print(f"left out: {fault.name} ({why})", flush=True)
            continue
        outcomes.append(campaign.play(fault))
        print(table.line(outcomes[-1]), flush=True)

    played = table.Played(shlex.join(["python", "scripts/chaos.py", *sys.argv[1:]]), tuple(outcomes), left_out)
    print(table.markdown([played]))
    if results is not None:
        page, data = results.with_suffix(".md"), results.with_suffix(".json")
        campaigns = table.followed_by(table.read(data), played)
        page.write_text(table.markdown(campaigns))
        data.write_text(table.as_json(campaigns))
    if any(outcome.problems for outcome in outcomes):
        sys.exit(f"not all is well: the runs are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
