"""Progress of long work: a bar with rate and remaining time on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 30.0

Advance = Callable[..., None]
"""`advance(steps, note="")`."""


@contextmanager
def progress(description: str, total: int | None, unit: str, start: int = 0) -> Iterator[Advance]:
    """Yields `advance(steps, note)`; `start` steps were done by an earlier process and do not count for the rate."""
    console = Console(stderr=True)
    began = shown = time.monotonic()
    done = start

    def rate() -> str:
        seconds = max(time.monotonic() - began, 1e-9)
        return f"{(done - start) / seconds:.3g} {unit}/s"

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total, completed=start, rate="", note="")

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal done, shown
            done += steps
            bar.update(task, completed=done, rate=rate(), note=note)
            now = time.monotonic()
            if not console.is_terminal and now - shown > LOG_EVERY_S:
                shown = now
                left = ""
                if total is not None and done > start:
                    left = f" of {total}, {(total - done) * (now - began) / (done - start):.0f} s left"
                print(
                    f"{description}: {done}{left}, {rate()}{', ' + note if note else ''}", file=sys.stderr, flush=True
                )

        yield advance
