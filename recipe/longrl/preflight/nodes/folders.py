"""What every node writes is one folder for all: each sees the driver's file there, and the driver sees each one's.

Ranks write their shares of a checkpoint wherever they run, the trainer its metrics wherever Ray puts it, and the driver
reads both.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from recipe.longrl.preflight.check import describe
from recipe.longrl.preflight.nodes.finding import Finding
from recipe.longrl.preflight.nodes.question import Question

SEEN_TIMEOUT_S = 5.0  # for a network file system to show what another machine wrote
FIX = "put longrl.output_dir and trainer.default_local_dir on a file system that every node mounts and may write"


@contextmanager
def marks(config: DictConfig) -> Iterator[dict[str, str]]:
    """The driver's files in those folders, folder -> name, while the nodes look for them. A folder that is not there
    yet is stood for by the nearest one above it that is. Raises OSError where the driver cannot write."""
    written = dict.fromkeys(Path(folder) for folder in (config.longrl.output_dir, config.trainer.default_local_dir))
    existing = dict.fromkeys(next(p for p in (folder, *folder.parents) if p.exists()) for folder in written)
    name = f".preflight-{secrets.token_hex(8)}"
    try:
        for folder in existing:
            (folder / name).write_text("")  # which a full disk has room for
        yield {str(folder): name for folder in existing}
    finally:
        for folder in existing:
            for left in folder.glob(f"{name}*"):
                left.unlink(missing_ok=True)


def shared(question: Question) -> Iterator[Finding]:
    """On a node: it sees what the driver wrote, and leaves a file for the driver to see. Silent where all is well."""
    for folder, name in question.driver.folders.items():
        try:
            if _appears(Path(folder) / name):
                _answer(folder, name, question.node.id).write_text("")
            else:
                yield Finding("folders", "FAIL", f"{folder} is not the driver's: its file is not there. Fix: {FIX}")
        except OSError as error:
            yield Finding("folders", "FAIL", f"{folder} cannot be written: {describe(error)}. Fix: {FIX}")


def answered(folders: Mapping[str, str], node_id: str) -> Iterator[Finding]:
    """On the driver, for a node where `shared` was silent: what it wrote is here."""
    for folder, name in folders.items():
        if _appears(_answer(folder, name, node_id)):
            yield Finding("folders", "ok", f"{folder} is written by every node, and one for all")
        else:
            yield Finding("folders", "FAIL", f"the driver does not see what was written into {folder} here. Fix: {FIX}")


def _answer(folder: str, name: str, node_id: str) -> Path:
    return Path(folder) / f"{name}-{node_id}"


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + SEEN_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
