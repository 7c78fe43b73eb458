"""Command `python -m recipe.longrl.preflight [--timeout SECONDS] [hydra overrides...]`: check a run and every node.

Launchers call it before they start training, with the same overrides, on the machine that will be the driver.
"""

import os
import sys
import time

from recipe.longrl import command_flags, preflight, settings
from recipe.longrl.main import refuse
from recipe.longrl.preflight import nodes

HELP = f"""usage: python -m recipe.longrl.preflight [--timeout SECONDS] [--version] [--help] [hydra overrides...]

Checks a run's configuration, data and model as `python -m recipe.longrl.main` does with the same overrides. Where a Ray
cluster runs (RAY_ADDRESS, or `ray start` on this machine), it then checks every node of it; else this machine.

  --timeout SECONDS   for all nodes together (default {nodes.TIMEOUT_S:.0f}); nodes that do not respond are named

exit status: 0 passed (warnings allowed), 2 a check failed
"""
FLAGS = ("--version", "--help", "-h")


def main() -> None:
    """The command line. Ends the process, which threads of a Ray that does not respond would keep alive."""
    status = 0
    try:
        check_and_show()
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def check_and_show(arguments: list[str] | None = None) -> None:
    """Check the run and every node, and print the results; exits with status 2 if a check fails."""
    arguments = sys.argv[1:] if arguments is None else arguments
    started = time.monotonic()
    try:
        seconds, rest = _parse_timeout(arguments)
        flags, overrides = command_flags.split_flags(rest, FLAGS)
        if command_flags.answer_flags(flags, HELP):
            return
        config = settings.compose(overrides)
        settings.resolve(config)
        checks = preflight.run(config)
    except settings.SettingsError as error:
        refuse(error)
    checks += nodes.check_nodes(config, seconds)
    preflight.show(config, checks)
    duration = f"{time.monotonic() - started:.1f} s"
    if preflight.failed(checks):
        print(
            f"preflight failed in {duration}, nothing was started: see the lines marked FAIL",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(2)
    print(f"preflight passed in {duration}", flush=True)


def _parse_timeout(arguments: list[str]) -> tuple[float, list[str]]:
    """Seconds for the nodes, and the remaining arguments. Raises SettingsError."""
    if "--timeout" not in arguments:
        return nodes.TIMEOUT_S, arguments
    at = arguments.index("--timeout")
    try:
        seconds = float(arguments[at + 1])
    except (IndexError, ValueError) as error:
        raise settings.SettingsError("--timeout needs a number of seconds, e.g. --timeout 120") from error
    return seconds, arguments[:at] + arguments[at + 2 :]


if __name__ == "__main__":
    main()
