"""Secrets that a test gives to a run, and where they must not be found again: on command lines, and in files."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

VALUES = {
    name: f"canary-of-{name.lower()}"
    for name in (
        *("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "LONGRL_JUDGE_API_KEY"),
        *("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"),
    )
}
"""The last but one goes to the workers by its name alone."""
ENVIRONMENT = {**VALUES, "LONGRL_FORWARD_ENV": "AWS_SECRET_ACCESS_KEY"}


def files_with(folder: Path, values: Mapping[str, str] = VALUES) -> list[str]:
    """Each file below a folder, and the canary in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [f"{path}: {name}" for path in files for name, v in values.items() if v.encode() in path.read_bytes()]


class CommandLines:
    """Command lines of a process and its descendants with a canary, seen while the `with` block lasts."""

    def __init__(self, pid: int) -> None:
        self.seen: list[str] = []
        self.looked = 0
        self._root, self._ended = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            for process in self._processes():
                with contextlib.suppress(psutil.Error):
                    line = " ".join(process.cmdline())
                    self.looked += 1
                    self.seen += [line for value in VALUES.values() if value in line]

    def _processes(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            yield from self._root.children(recursive=True)

    def __enter__(self) -> "CommandLines":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
