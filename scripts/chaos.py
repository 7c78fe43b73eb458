"""Inject random faults into real runs of a tiny model, and check each run afterwards.

    python scripts/chaos.py --minutes 25 --seed 7
    python scripts/chaos.py --only bit_in_shard --only kill_gcs
    python scripts/chaos.py --list

Needs no GPU, but two cores, 8 GiB of memory, and a few minutes for each fault. scripts/faults/invariants.py has the
conditions that must hold after a fault, scripts/faults/catalog.py the faults. The status is 1 if a condition does not
hold.
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
from faults import results_table
from faults.campaign import Campaign, draw_faults
from faults.catalog import FAULTS


def main(
    minutes: Annotated[float, typer.Option(help="Start no further fault after this time.")] = 25.0,
    seed: Annotated[int, typer.Option(help="Seed of the order and the moments of the faults.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Only the fault of this name; may be repeated.")] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the runs, of which those without problems are removed, and of what they train on."
        ),
    ] = Path("outputs/chaos"),
    results: Annotated[
        Path | None, typer.Option(help="Files of the table (.md, .json); repeated faults replace earlier ones.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the faults and exit.")] = False,
) -> None:
    """Run the reference, then one fault after the other. Print a line for each, and a table at the end."""
    if list_:
        width = max(len(fault.name) for fault in FAULTS)
        print(*(f"{fault.name:<{width}}  {fault.description}" for fault in FAULTS), sep="\n")
        return
    try:
        faults = draw_faults(seed, only or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error

    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{datetime.datetime.now():%Y%m%d-%H%M}-", dir=out.absolute()))
    print(f"seed {seed}, runs in {folder}; starting with the reference", flush=True)
    campaign = Campaign(folder, seed)
    outcomes = [campaign.run_reference()]
    print(results_table.format_line(outcomes[0]), flush=True)
    if outcomes[0].problems:
        sys.exit("the undisturbed run has problems already")
    skipped: dict[str, str] = {}
    for fault in faults:
        if time.monotonic() - started > 60 * minutes:
            print(f"the time is over; faults not tried: {len(faults) - len(outcomes) - len(skipped) + 1}")
            break
        if reason := fault.unavailable():
            skipped[fault.name] = reason
            print(f"skipped: {fault.name} ({reason})", flush=True)
            continue
        outcomes.append(campaign.run_fault(fault))
        print(results_table.format_line(outcomes[-1]), flush=True)

    result = results_table.CampaignResult(
        shlex.join(["python", "scripts/chaos.py", *sys.argv[1:]]), tuple(outcomes), skipped
    )
    print(results_table.format_markdown([result]))
    if results is not None:
        page, data = results.with_suffix(".md"), results.with_suffix(".json")
        campaigns = results_table.append_campaign(results_table.read_results(data), result)
        page.write_text(results_table.format_markdown(campaigns))
        data.write_text(results_table.format_json(campaigns))
    if any(outcome.problems for outcome in outcomes):
        sys.exit(f"there are problems; their runs are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
