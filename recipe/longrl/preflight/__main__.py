"""`python -m recipe.longrl.preflight [--timeout SECONDS] [hydra overrides...]`: what main checks, and every node.

Launchers call it before they start training: with the same overrides, on the machine that will be the driver.
"""

import os
import sys
import time

from recipe.longrl import command_flags, preflight, settings
from recipe.longrl.main import refuse
from recipe.longrl.preflight import nodes

HELP = f"""usage: python -m recipe.longrl.preflight [--timeout SECONDS] [--version] [--help] [hydra overrides...]

Checks a run's configuration, data and model as `python -m recipe.longrl.main` does with the same overrides. Where a Ray
cluster runs (RAY_ADDRESS, or `ray start` on this machine), it then looks at every node of it; else at this machine.

  --timeout SECONDS   for the nodes, all together (default {nodes.TIMEOUT_S:.0f}); a node that does not answer is named

exit status: 0 all is well (warnings allowed), 2 something is wrong
"""
FLAGS = ("--version", "--help", "-h")


def main(arguments: list[str] | None = None) -> None:
    """The command line; exits with status 2 unless all is well."""
    arguments = sys.argv[1:] if arguments is None else arguments
    started = time.monotonic()
    try:
        seconds, rest = _timeout(arguments)
        asked, overrides = command_flags.split_flags(rest, FLAGS)
        if command_flags.answer_flags(asked, HELP):
            return
        config = settings.compose(overrides)
        settings.resolve(config)
        checks = preflight.run(config)
    except settings.SettingsError as error:
        refuse(error)
    checks += nodes.checks(config, seconds)
    preflight.show(config, checks)
    took = f"{time.monotonic() - started:.1f} s"
    if preflight.failed(checks):
        print(
            f"preflight failed in {took}, nothing was started: see the lines marked FAIL", file=sys.stderr, flush=True
        )
        sys.exit(2)
    print(f"preflight passed in {took}", flush=True)


def _timeout(arguments: list[str]) -> tuple[float, list[str]]:
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
    status = 0
    try:
        main()
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # whatever a Ray that does not answer keeps waiting for
