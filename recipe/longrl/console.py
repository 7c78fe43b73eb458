"""Show progress in the terminal and write every line that Ray, verl and vLLM print to train.log.

Lines that begin with `longrl: ` (after Ray's "(TaskRunner pid=...)" prefix) are progress and go to both. All other
lines go only to the log, or to both with LONGRL_VERBOSE=1. When training fails, the end of the log is printed. Secrets
are redacted in both. If the disk is full, lines of the log are dropped, and the terminal says so once.
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
"""Bytes read from the end of the log for each line to show: an upper bound of their mean length."""
_RAY_PREFIX = re.compile(r"^(?:\x1b\[\d+m)?\([^)]*pid=[^)]*\)(?:\x1b\[0m)? ?")


class _Log:
    """The log file, which drops lines when the disk is full."""

    def __init__(self, file: io.RawIOBase, path: Path, terminal: io.TextIOBase) -> None:
        self._file, self._path, self._terminal, self._whole = file, path, terminal, True

    def write(self, line: str) -> None:
        try:
            self._file.write(line.encode(errors="replace"))
        except OSError as error:
            if self._whole:
                self._terminal.write(f"{self._path}: {error.strerror}: log lines are dropped\n")
            self._whole = False


class _Tee(io.TextIOBase):
    """Text stream that sends all lines to `log`, and marked ones (all if `verbose`) to `terminal`."""

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
def log_output(path: Path, tail: int = 25) -> Iterator[None]:
    """Send this process's output, including what Ray forwards from the workers, to the log and the terminal.

    path: the log, appended to. When the body raises, the last `tail` lines of the log are printed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    verbose = os.environ.get("LONGRL_VERBOSE", "0") == "1"
    print(f"full log (Ray, verl, vLLM): {path}. Set LONGRL_VERBOSE=1 to print it here as well", flush=True)
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
            print(f"--- end of {path} ---", *lines, "---", sep="\n", file=sys.stderr, flush=True)
            raise


def show_error(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Print an exception as Python does (use as sys.excepthook), with secrets redacted."""
    print(redact("".join(traceback.format_exception(kind, error, at))), end="", file=sys.stderr)


def _close(file: io.RawIOBase) -> None:
    # A network file system may report only here that the disk is full.
    with contextlib.suppress(OSError):
        file.close()


@contextlib.contextmanager
def _ray_logger_to(stream: io.TextIOBase) -> Iterator[None]:
    """Redirect Ray's logger, which keeps the stream that it had when Ray was imported."""
    original_streams = [
        (handler, handler.stream)
        for handler in logging.getLogger("ray").handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
    for handler, _ in original_streams:
        handler.setStream(stream)
    try:
        yield
    finally:
        for handler, original in original_streams:
            handler.setStream(original)
