"""Files: what every node reads is the same everywhere, what every node writes is one folder for all.

Reading all of a model on every node would take longer than starting; so small files are compared whole, and of a larger one
the size and samples at its beginning, middle and end.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from recipe.longrl.preflight.check import describe
from recipe.longrl.preflight.nodes.finding import Finding
from recipe.longrl.preflight.nodes.question import Question
from recipe.longrl.settings import is_url

WHOLE_BYTES, SAMPLE_BYTES = 2**20, 2**18
SAMPLED = f"files over {WHOLE_BYTES // 2**20} MiB by size and samples"
SEEN_TIMEOUT_S = 5.0  # for a network file system to show what another machine wrote


def read_by_all(config: DictConfig) -> dict[str, str]:
    """Key of the configuration -> path or hub name of what the run's processes read on every node."""
    model, judge, data = config.actor_rollout_ref.model, config.reward.reward_model, config.data
    paths = {
        f"actor_rollout_ref.model.{key}": model.get(key) for key in ("path", "tokenizer_path", "lora_adapter_path")
    }
    if judge.enable:
        paths["reward.reward_model.model_path"] = judge.model_path
    for split in ("train_files", "val_files"):
        files = [data[split]] if isinstance(data[split], str) else data[split]
        paths |= {f"data.{split}[{i}]": file for i, file in enumerate(files)}
    own = [scorer for scorer in config.longrl.reward.get("scorers") or [] if str(scorer).endswith(".py")]
    paths |= {f"longrl.reward.scorers[{i}]": file for i, file in enumerate(own)}
    return {key: path for key, path in paths.items() if path and not is_url(path)}


def written_by_all(config: DictConfig) -> list[str]:
    """Folders that processes on any node write: checkpoints by every rank, the rest by the trainer, wherever it runs."""
    return list(dict.fromkeys((config.longrl.output_dir, config.trainer.default_local_dir)))


def fingerprints(path: str) -> dict[str, str]:
    """Relative path -> size and digest of a file, or of a folder's files; of a model of the hub its commit in this
    machine's cache, or nothing. Raises OSError."""
    place = Path(path)
    if place.is_dir():
        files = [file for file in sorted(place.rglob("*")) if file.is_file()]
        visible = [file for file in files if not any(part.startswith(".") for part in file.relative_to(place).parts)]
        return {str(file.relative_to(place)): _fingerprint(file) for file in visible}
    if place.is_absolute():
        return {place.name: _fingerprint(place)}
    return _cached(path)


def _fingerprint(file: Path) -> str:
    size, digest = file.stat().st_size, hashlib.sha256()
    with file.open("rb") as content:
        if size <= WHOLE_BYTES:
            digest.update(content.read())
        else:
            for offset in (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES):
                content.seek(offset)
                digest.update(content.read(SAMPLE_BYTES))
    return f"{size} bytes, {digest.hexdigest()[:12]}"


def _cached(name: str) -> dict[str, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return {name: f"commit {Path(snapshot_download(name, local_files_only=True)).name}"}
    except (LocalEntryNotFoundError, HFValidationError):
        return {}


def same(question: Question) -> Iterator[Finding]:
    """Model, data and the user's scorers, against the driver's."""
    for key, expected in question.driver.files.items():
        path = read_by_all(question.config)[key]
        try:
            here = fingerprints(path)
        except OSError as error:
            fix = "put it on a file system that every node mounts, readable for this user, or copy it there"
            yield Finding("files", "FAIL", f"{key} = {path} cannot be read: {describe(error)}. Fix: {fix}")
            continue
        if here == expected:
            yield Finding(
                "files", "ok", f"{key} is the driver's ({len(here)} files; {SAMPLED})" if here else _uncached(key, path)
            )
        elif not here:
            yield _missing(key, path)
        else:
            yield Finding("files", "FAIL", f"{key} = {path} is not the driver's: {_differences(here, expected)}")


def _differences(here: Mapping[str, str], expected: Mapping[str, str]) -> str:
    names = sorted(name for name in here.keys() | expected.keys() if here.get(name) != expected.get(name))
    shown = [f"{name} {here.get(name, 'missing')}, expected {expected.get(name, 'no such file')}" for name in names[:3]]
    more = f" and {len(names) - 3} more files" if len(names) > 3 else ""
    return f"{'; '.join(shown)}{more}. Fix: copy it again, or use one file system for all"


def _uncached(key: str, name: str) -> str:
    return f"{key} = {name} is in no cache: every node fetches it when the run starts"


def _missing(key: str, name: str) -> Finding:
    """A model that the driver's machine has in its cache, or as a folder, and this node has not."""
    if Path(name).is_absolute():
        fix = "put it on a file system that every node mounts, or copy it there"
        return Finding("files", "FAIL", f"{key} = {name} is an empty folder. Fix: {fix}")
    detail = f"{key} = {name} is not in this node's cache ({os.environ.get('HF_HOME', '~/.cache/huggingface')})"
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return Finding("files", "FAIL", f"{detail}, and HF_HUB_OFFLINE forbids to fetch it. Fix: share HF_HOME")
    return Finding("files", "warn", f"{detail}: it is fetched when the run starts")


@contextmanager
def marks(config: DictConfig) -> Iterator[dict[str, str]]:
    """The driver's files in the folders that all write, folder -> name, while the nodes look for them. A folder that is not
    there yet is stood for by the nearest one above it that is. Raises OSError where the driver cannot write."""
    token, made = secrets.token_hex(8), {}
    for folder in written_by_all(config):
        existing = next(p for p in (Path(folder), *Path(folder).parents) if p.exists())
        made[str(existing)] = f".preflight-{token}"
    try:
        for folder, name in made.items():
            (Path(folder) / name).write_text(token)
        yield made
    finally:
        for folder, name in made.items():
            for left in Path(folder).glob(f"{name}*"):
                left.unlink(missing_ok=True)


def shared(question: Question) -> Iterator[Finding]:
    """This node sees what the driver wrote, and leaves a file for the driver to see."""
    for folder, name in question.driver.folders.items():
        mark, answer = Path(folder) / name, Path(folder) / f"{name}-{question.node.id}"
        fix = "put longrl.output_dir and trainer.default_local_dir on a file system that every node mounts"
        try:
            if not _appears(mark):
                yield Finding("folders", "FAIL", f"{folder} is not the driver's: its file is not there. Fix: {fix}")
                continue
            answer.write_text(question.node.id)
        except OSError as error:
            yield Finding(
                "folders", "FAIL", f"{folder} cannot be written: {describe(error)}. Fix: {fix}, for this user"
            )


def answered(folders: Mapping[str, str], node_id: str) -> Iterator[Finding]:
    """On the driver, for a node whose `shared` found nothing wrong: what it wrote is here."""
    for folder, name in folders.items():
        if _appears(Path(folder) / f"{name}-{node_id}"):
            yield Finding("folders", "ok", f"{folder} is written by every node, and one for all")
        else:
            fix = "put longrl.output_dir and trainer.default_local_dir on a file system that every node mounts"
            yield Finding("folders", "FAIL", f"the driver does not see what the node wrote into {folder}. Fix: {fix}")


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + SEEN_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
