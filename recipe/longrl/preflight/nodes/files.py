"""What every node reads is the same everywhere: model, data, the user's scorers.

Reading all of a model on every node would take longer than starting; so small files are compared whole, and of a larger
one the size and samples at its beginning, middle and end.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from omegaconf import DictConfig

from recipe.longrl.content_digest import WHOLE_BYTES, digest_samples
from recipe.longrl.preflight.check import describe
from recipe.longrl.preflight.nodes.finding import Finding
from recipe.longrl.preflight.nodes.question import Question
from recipe.longrl.settings import is_url

SAMPLED = f"files over {WHOLE_BYTES // 2**20} MiB by size and samples"


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


def fingerprints(path: str) -> dict[str, str]:
    """Relative path -> size and digest of a file, or of a folder's files; of a model of the hub its commit in this
    machine's cache, or nothing. Raises OSError."""
    place = Path(path)
    if place.is_dir():
        files = [file for file in sorted(place.rglob("*")) if file.is_file()]
        visible = [file for file in files if not any(part.startswith(".") for part in file.relative_to(place).parts)]
        return {str(file.relative_to(place)): digest_samples(file) for file in visible}
    if place.is_absolute():
        return {place.name: digest_samples(place)}
    return _cached(path)


def _cached(name: str) -> dict[str, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return {name: f"commit {Path(snapshot_download(name, local_files_only=True)).name}"}
    except (LocalEntryNotFoundError, HFValidationError):
        return {}


def same(question: Question) -> Iterator[Finding]:
    """Model, data and the user's scorers, against the driver's."""
    equal, uncached = 0, []
    for key, expected in question.driver.files.items():
        path = read_by_all(question.config)[key]
        try:
            here = fingerprints(path)
        except OSError as error:
            fix = "put it on a file system that every node mounts, readable for this user, or copy it there"
            yield Finding("files", "FAIL", f"{key} = {path} cannot be read: {describe(error)}. Fix: {fix}")
            continue
        if here == expected:
            equal += len(here)
            uncached += [] if here else [f"{key} = {path}"]
        elif not here:
            yield _missing(key, path)
        else:
            yield Finding("files", "FAIL", f"{key} = {path} is not the driver's: {_differences(here, expected)}")
    if equal:
        yield Finding("files", "ok", f"{{}} files of model, data and scorers are the driver's ({SAMPLED})", (equal,))
    if uncached:
        detail = f"{', '.join(uncached)} is in no cache: every node fetches it when the run starts"
        yield Finding("files", "warn", detail)


def _differences(here: Mapping[str, str], expected: Mapping[str, str]) -> str:
    names = sorted(name for name in here.keys() | expected.keys() if here.get(name) != expected.get(name))
    shown = [f"{name} {here.get(name, 'missing')}, expected {expected.get(name, 'no such file')}" for name in names[:3]]
    more = f" and {len(names) - 3} more files" if len(names) > 3 else ""
    return f"{'; '.join(shown)}{more}. Fix: copy it again, or use one file system for all"


def _missing(key: str, name: str) -> Finding:
    """A model that the driver's machine has in its cache, or as a folder, and this node has not."""
    if Path(name).is_absolute():
        fix = "put it on a file system that every node mounts, or copy it there"
        return Finding("files", "FAIL", f"{key} = {name} is an empty folder. Fix: {fix}")
    detail = f"{key} = {name} is not in this node's cache ({os.environ.get('HF_HOME', '~/.cache/huggingface')})"
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return Finding("files", "FAIL", f"{detail}, and HF_HUB_OFFLINE forbids to fetch it. Fix: share HF_HOME")
    return Finding("files", "warn", f"{detail}: it is fetched when the run starts")
