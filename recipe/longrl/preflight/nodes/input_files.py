"""Check that model, data and the user's scorers are on every node, with the driver's content.

Small files are compared by their content; of weights and of data over 1 MiB the size and samples are compared, because
reading them whole would take longer than the start of the run (`recipe.longrl.content_digest`).
"""

import os
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from recipe.longrl import hub_access
from recipe.longrl.content_digest import Content, digest_model, digest_samples
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.nodes.probe_input import ProbeInput
from recipe.longrl.settings import is_url

FIX = "put it on a file system that every node mounts, or copy it there again"


def list_input_files(config: DictConfig) -> dict[str, str]:
    """Configuration key -> file, folder or hub name that processes on every node read. URLs are left out: each node
    fetches them when the run starts."""
    model, judge, data = config.actor_rollout_ref.model, config.reward.reward_model, config.data
    paths = {
        f"actor_rollout_ref.model.{key}": model.get(key) for key in ("path", "tokenizer_path", "lora_adapter_path")
    }
    if judge.enable:
        paths["reward.reward_model.model_path"] = judge.model_path
    for split in ("train_files", "val_files"):
        files = [data[split]] if isinstance(data[split], str) else data[split]
        paths |= {f"data.{split}[{i}]": file for i, file in enumerate(files)}
    scorers = [scorer for scorer in config.longrl.reward.get("scorers") or [] if str(scorer).endswith(".py")]
    paths |= {f"longrl.reward.scorers[{i}]": file for i, file in enumerate(scorers)}
    return {key: path for key, path in paths.items() if path and not is_url(path)}


def digest_all(config: DictConfig) -> dict[str, Content]:
    """Configuration key -> digest, of those that are on this machine. The checks of model and data report others."""
    digests = {key: _digest(path) for key, path in list_input_files(config).items()}
    return {key: digest for key, digest in digests.items() if digest is not None}


def _digest(path: str) -> Content | None:
    try:
        return digest_samples(Path(path)) if Path(path).is_file() else digest_model(path)
    except OSError:
        return None


def check_input_files(probe_input: ProbeInput) -> Iterator[Check]:
    """A line for each file or model that is missing here or differs from the driver's; else one line for all."""
    checks = []
    paths = list_input_files(probe_input.config)
    for key, expected in probe_input.driver.files.items():
        path, here = paths[key], _digest(paths[key])
        if here == expected:
            continue
        if here is not None:
            detail = f"{key} = {path}: differs from the driver's ({_describe_difference(here, expected)})"
            checks.append(Check("files", "FAIL", f"{detail}. Fix: {FIX}"))
        elif not hub_access.is_hub_name(path):
            checks.append(Check("files", "FAIL", f"{key} = {path}: missing or not readable here. Fix: {FIX}"))
        elif os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
            fix = "set HF_HOME to a shared folder"
            checks.append(Check("files", "FAIL", f"{key} = {path}: not in the cache, and HF_HUB_OFFLINE=1. Fix: {fix}"))
        else:
            detail = f"{key} = {path}: not in the cache; downloaded when the run starts"
            checks.append(Check("files", "warn", detail))
    yield from checks or [Check("files", "ok", "model, data and scorers are the same as the driver's")]


def _describe_difference(here: Content, expected: Content) -> str:
    """The two digests, or those of the first file in which two folders differ."""
    if not isinstance(here, dict) or not isinstance(expected, dict):
        return f"{here}, expected {expected}"
    name = min(name for name in here.keys() | expected.keys() if here.get(name) != expected.get(name))
    return f"{name}: {here.get(name, 'no such file')}, expected {expected.get(name, 'no such file')}"
