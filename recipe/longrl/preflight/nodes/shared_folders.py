"""Check that the folders which the run writes are the same on all nodes.

Each rank writes its part of a checkpoint on its node, Ray may put the trainer on any node, and the driver reads all of
it. So the driver leaves a file in each folder, every node looks for it and leaves one of its own, for which the driver
looks.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from recipe.longrl.preflight.check import Check, describe
from recipe.longrl.preflight.nodes.probe_input import ProbeInput

VISIBLE_TIMEOUT_S = 5.0
"""A network file system may take seconds to show what another machine wrote."""
FIX = "put longrl.output_dir and trainer.default_local_dir on a file system that every node mounts and can write"


@contextmanager
def driver_files(config: DictConfig) -> Iterator[dict[str, str]]:
    """Leave the driver's files, while the nodes look for them: folder -> name of its file. A folder that does not
    exist yet is represented by its nearest parent that does. Raises OSError where the driver cannot write."""
    output_folders = [Path(folder) for folder in (config.longrl.output_dir, config.trainer.default_local_dir)]
    existing = {next(p for p in (folder, *folder.parents) if p.exists()) for folder in output_folders}
    name = f".preflight-{secrets.token_hex(8)}"
    try:
        for folder in existing:
            # An empty file can be written on a full disk, about which another check tells.
            (folder / name).write_text("")
        yield {str(folder): name for folder in sorted(existing)}
    finally:
        for folder in existing:
            for file in folder.glob(f"{name}*"):
                file.unlink(missing_ok=True)


def check_driver_files(probe_input: ProbeInput) -> Iterator[Check]:
    """On a node: look for the driver's files, and leave one beside each. No line where all is well."""
    for folder, name in probe_input.driver.folders.items():
        try:
            if _appears(Path(folder) / name):
                _file_of_node(folder, name, probe_input.node.id).write_text("")
            else:
                detail = f"{folder} is not shared with the driver: the driver's file is not there"
                yield Check("folders", "FAIL", f"{detail}. Fix: {FIX}")
        except OSError as error:
            yield Check("folders", "FAIL", f"{folder} cannot be written: {describe(error)}. Fix: {FIX}")


def check_files_of_node(folders: Mapping[str, str], node_id: str) -> Iterator[Check]:
    """On the driver: look for the files of a node where `check_driver_files` gave no line."""
    for folder, name in folders.items():
        if _appears(_file_of_node(folder, name, node_id)):
            yield Check("folders", "ok", f"{folder} is shared with the driver and writable")
        else:
            yield Check("folders", "FAIL", f"the driver does not see files written to {folder} here. Fix: {FIX}")


def _file_of_node(folder: str, name: str, node_id: str) -> Path:
    return Path(folder) / f"{name}-{node_id}"


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + VISIBLE_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
