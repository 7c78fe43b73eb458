"""Decide whether a Slurm job whose training has ended is requeued; train.sbatch runs this on the batch host.

    python3 scripts/slurm/requeue.py --status=75 --signal=USR1 --restarts=0 --max-restarts=100 \\
        --max-deaths=3 --deaths-file=logs/42/deaths --attempt=attempt-0

Prints `requeue`, or `stop: REASON`. If the training runs in a container, this runs with the host's python3: it uses
only the standard library, and no syntax newer than Python 3.6.
"""

import argparse
import sys
from pathlib import Path

SAVED = 75
"""EX_TEMPFAIL: the run has saved, or can resume from its last checkpoint, and the same command continues it."""


def decide(status: int, signal: str, restarts: int, max_restarts: int, deaths: int, max_deaths: int) -> str:
    """`requeue`, or `stop: REASON`.

    status: of the training. signal: the one that asked it to stop, USR1 (the time limit is near) or TERM (the user), or
    "" if a worker died. restarts: how often the job was requeued before. deaths: attempts in a row, this one included,
    that ended without a signal.
    """
    if status == 0:
        return "stop: the training is complete"
    if status != SAVED:
        return f"stop: a training that ended with status {status} cannot resume"
    resume = "submit the same command again to resume"
    if signal == "TERM":
        return f"stop: stopped by SIGTERM, as requested; {resume}"
    if not signal and deaths >= max_deaths:
        return f"stop: a worker died in each of {max_deaths} attempts in a row (LONGRL_MAX_DEATHS); {resume}"
    if restarts >= max_restarts:
        return f"stop: restarted {restarts} times, LONGRL_MAX_RESTARTS = {max_restarts}; {resume}"
    return "requeue"


def count_deaths(file: Path, attempt: str, status: int, signal: str) -> int:
    """Attempts in a row in which a worker died. The file has a line for each; a requested stop begins a new row."""
    if status != SAVED:
        return 0
    if signal:
        if file.exists():
            file.unlink()
        return 0
    with file.open("a") as lines:
        lines.write(attempt + "\n")
    return len(file.read_text().splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("status", "restarts", "max-restarts", "max-deaths"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--signal", choices=("", "USR1", "TERM"), required=True)
    parser.add_argument("--attempt", required=True)
    parser.add_argument("--deaths-file", type=Path, required=True)
    options = parser.parse_args()
    deaths = count_deaths(options.deaths_file, options.attempt, options.status, options.signal)
    print(decide(options.status, options.signal, options.restarts, options.max_restarts, deaths, options.max_deaths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
