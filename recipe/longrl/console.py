"""The terminal shows what a person wants to know; train.log holds every line that Ray, verl and vLLM print.

Lines that begin with `longrl: ` (behind Ray's "(TaskRunner pid=...)" prefix) are progress and go to both; everything
else goes to the log alone, or to both with LONGRL_VERBOSE=1. When training fails, the log's end is shown. Neither shows
a secret. What a full disk refuses of the log is lost, which the terminal is told once.
"""

import contextlib
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from verl_longrl.secrets import redact

MARK = "longrl: "
LONGEST_LINE = 4096
"""Bytes of a line of the log that its end is expected to have at most, on average."""
_RAY_PREFIX = re.compile(r"^(?:\x1b\[\d+m)?\([^)]*pid=[^)]*\)(?:\x1b\[0m)? ?")


class _Log:
    """The log, of which lines are lost where the disk refuses them."""

    def __init__(self, file: io.RawIOBase, path: Path, terminal: io.TextIOBase) -> None:
        self._file, self._path, self._terminal, self._whole = file, path, terminal, True

    def write(self, line: str) -> None:
        try:
            self._file.write(line.encode(errors="replace"))
        except OSError as error:
            if self._whole:
                self._terminal.write(f"{self._path}: {error.strerror}: lines of it are lost\n")
            self._whole = False


class _Tee(io.TextIOBase):
    """Text stream: all lines to `log`, marked ones (or all, if `verbose`) to `terminal`."""

    def __init__(self, terminal: io.TextIOBase, log: _Log, verbose: bool) -> None:
        self._terminal, self._log, self._verbose, self._rest = terminal, log, verbose, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in map(redact, lines):
            self._log.write(line + "\n")
            bare = _RAY_PREFIX.sub("", line)
            if bare.startswith(MARK):
                self._terminal.write(bare.removeprefix(MARK) + "\n")
            elif self._verbose:
                self._terminal.write(line + "\n")
        if lines:
            self.flush()
        return len(text)

    def flush(self) -> None:
        self._terminal.flush()

    def isatty(self) -> bool:
        return False


@contextlib.contextmanager
def logged(path: Path, tail: int = 25) -> Iterator[None]:
    """Send this process's output, and with it what Ray forwards from the workers, through the filter.

    path: the log, appended to. When the body raises, the last `tail` lines of the log are shown first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    verbose = os.environ.get("LONGRL_VERBOSE", "0") == "1"
    print(f"everything the engines print goes to {path} (LONGRL_VERBOSE=1 shows it here too)", flush=True)
    with contextlib.ExitStack() as stack:
        file = path.open("ab", buffering=0)
        stack.callback(_close, file)
        log = _Log(file, path, sys.stderr)  # type: ignore[arg-type]
        out, err = _Tee(sys.stdout, log, verbose), _Tee(sys.stderr, log, verbose)  # type: ignore[arg-type]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _ray_logger_to(err):
                yield
        except BaseException:
            with path.open("rb") as written:
                written.seek(max(0, written.seek(0, os.SEEK_END) - tail * LONGEST_LINE))
                lines = written.read().decode(errors="replace").splitlines()[-tail:]
            print(f"--- the end of {path} ---", *lines, "---", sep="\n", file=sys.stderr, flush=True)
            raise


def show_error(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """As Python shows an exception that ends a program (sys.excepthook), without secrets."""
    print(redact("".join(traceback.format_exception(kind, error, at))), end="", file=sys.stderr)


def _close(file: io.RawIOBase) -> None:
    with contextlib.suppress(OSError):  # a network file system may say only here that the disk is full
        file.close()


@contextlib.contextmanager
def _ray_logger_to(stream: io.TextIOBase) -> Iterator[None]:
    """Ray's own logger keeps the stream it found when Ray was imported."""
    found = [h for h in logging.getLogger("ray").handlers if isinstance(h, logging.StreamHandler)]
    held = [(h, h.stream) for h in found if not isinstance(h, logging.FileHandler)]
    for handler, _ in held:
        handler.setStream(stream)
    try:
        yield
    finally:
        for handler, original in held:
            handler.setStream(original)
