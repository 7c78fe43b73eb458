"""Progress of long work on stderr: a bar on a terminal; elsewhere a line now and then, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOG_EVERY_S = 30.0

Advance = Callable[..., None]
"""`advance(steps=1, note="")`."""


@contextmanager
def progress_bar(
    description: str, total: int | None, unit: str, *, start: int = 0, log: bool = True
) -> Iterator[Advance]:
    """Yield `advance(steps, note)`.

    Args:
        total: steps in all; None if unknown.
        unit: of the rate, such as "rows".
        start: steps that an earlier process did; they do not count for the rate.
        log: whether a line is printed every 30 s where there is no terminal. With False nothing is (Ray actors).
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    began = last_line = time.monotonic()
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
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=not log) as bar:
        task = bar.add_task(description, total=total, completed=start, rate="", note="")

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal done, last_line
            done += steps
            bar.update(task, completed=done, rate=rate(), note=note)
            now = time.monotonic()
            if not log or console.is_terminal or now - last_line <= LOG_EVERY_S:
                return
            last_line = now
            left = ""
            if total is not None and done > start:
                left = f" of {total}, {(total - done) * (now - began) / (done - start):.0f} s left"
            note = f", {note}" if note else ""
            print(f"{description}: {done}{left}, {rate()}{note}", file=sys.stderr, flush=True)

        yield advance
