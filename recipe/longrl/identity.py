"""A run's folder continues only the run that it holds.

The first start writes its resolved configuration beside what it produces. A later start in the same folder must agree
with it in everything that decides what is trained (`TRAINS`); how it is trained (memory, hardware, how long, what is
saved and logged) may change. Compared of the data files: path and size; of the model: its path.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from verl_longrl.trainer.checkpoints import MANIFEST, checkpoint_folders, write_atomic

from recipe.longrl import model_folder

STORED = "config.yaml"
STARTED_WITH = "started_with"
"""Section of the stored file that is no configuration: what files and folders were at the first start."""

TRAINS = (
    "actor_rollout_ref.actor",
    "actor_rollout_ref.model",
    *(f"actor_rollout_ref.rollout.{key}" for key in ("n", "seed", "temperature", "top_k", "top_p", "do_sample")),
    *(f"actor_rollout_ref.rollout.{key}" for key in ("dtype", "ignore_eos", "multi_turn", "val_kwargs")),
    "algorithm",
    "critic.optim",
    "data",
    "longrl.advantage",
    "longrl.carry_steps",
    "longrl.judge",
    "longrl.mix",
    "longrl.reward",
    "longrl.rope",
    "reward.reward_manager",
    "reward.reward_model.model_path",
    "trainer.v1",
)
"""Sections that decide what is trained."""

FREE = {
    "actor_rollout_ref.actor": (
        *("*micro_batch_size*", "*max_token_len_per_gpu", "use_dynamic_bsz", "ulysses_*", "entropy_from_*"),
        *("entropy_checkpointing", "pad_to_*", "use_torch_compile", "use_fused_kernels", "use_prefix_grouper"),
        *("use_remove_padding", "calculate_entropy", "profiler*", "checkpoint*"),
        *("rollout_n", "optim.total_training_steps"),  # follow from other keys
    ),
    "actor_rollout_ref.actor.fsdp_config": (
        *("*offload*", "fsdp_size", "wrap_policy*", "*prefetch", "reshard*", "entropy*", "pad_to_*", "ulysses_*"),
        *("use_*", "turbo_config*"),
    ),
    "actor_rollout_ref.actor.megatron": (
        *("*offload*", "*parallel_size", "*parallel", "max_seqlen*", "override_transformer_config.recompute*", "pad_*"),
        *("entropy*", "use_dist*", "dist_*", "distrib_*"),
    ),
    "actor_rollout_ref.model": (
        *("use_shm", "enable_*", "use_remove_padding", "use_liger", "use_fused_kernels", "fused_kernel_options*"),
        *("tiled_mlp*", "trust_remote_code", "external_lib", "override_config.attn_implementation"),
    ),
    "data": ("*_workers", "use_shm", "cache_dir", "val_batch_size", "trust_remote_code"),
    # how scores are obtained, as long as they are the same scores
    "longrl.reward": ("timeout_s", "workers", "worker_memory_gib", "scorer_network", "max_failure_share"),
    "longrl.judge": (
        *("endpoints", "api_key_env", "concurrency", "timeout_s", "attempts", "*backoff_s", "cooldown_s", "cache_size"),
    ),
}
"""Keys within those sections that may differ all the same: memory, speed, hardware, logging."""

MOST_SHOWN = 12


class OtherRun(RuntimeError):
    """The folder holds a run that this configuration would not continue; the message says how they differ."""


def check(config: DictConfig) -> str:
    """What the folder of this resolved configuration holds, in words. Raises OtherRun if it must not go on there."""
    held = _held(config)
    if held is None:
        return f"{config.longrl.output_dir} is new"
    root = Path(config.trainer.default_local_dir)
    if config.trainer.resume_mode == "disable" and _checkpoints(root):
        raise OtherRun(
            f"trainer.resume_mode = disable, but {held}, which would be mixed with the new ones.\n"
            f"Fix: {_ways(config)}, or continue with trainer.resume_mode=auto"
        )
    stored = [folder / STORED for folder in _folders(config) if (folder / STORED).is_file()]
    if not stored:
        return f"continues: {held} (from before configurations were stored, so not compared)"
    differing = sorted({line for file in stored for line in differences(file, config)})
    if differing:
        more = [f"and {len(differing) - MOST_SHOWN} more"] if len(differing) > MOST_SHOWN else []
        first = f"{held}, of a run that was started with another configuration:"
        raise OtherRun("\n".join([first, *differing[:MOST_SHOWN], *more, f"Fix: {_ways(config)}"]))
    return f"continues: {held}"


def store(config: DictConfig) -> None:
    """Write the resolved configuration of a first start into the run's folder; call it before training starts."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    text = yaml.safe_dump({**plain, STARTED_WITH: _started_with(config)}, sort_keys=False, allow_unicode=True)
    new = _held(config) is None
    for folder in _folders(config):
        if new or not (folder / STORED).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / STORED, text)


def stored_beside(checkpoints: Path) -> Path | None:
    """The stored configuration of the run whose checkpoints are in this folder, or None."""
    return next((f for f in (checkpoints / STORED, checkpoints.parent / STORED) if f.is_file()), None)


def differences(file: Path, config: DictConfig) -> list[str]:
    """`key: old -> new` for each key that decides what is trained and is not as `file` says."""
    before = yaml.safe_load(file.read_text())
    then = _identity(before, before.get(STARTED_WITH, {}))
    now = _identity(OmegaConf.to_container(config, resolve=True), _started_with(config))
    pairs = {key: (then.get(key, "absent"), now.get(key, "absent")) for key in {*then, *now}}
    return [f"{key}: {old} -> {new}" for key, (old, new) in pairs.items() if old != new]


def _folders(config: DictConfig) -> list[Path]:
    """The run's folder and, if that is elsewhere, the checkpoints'."""
    output, checkpoints = Path(config.longrl.output_dir), Path(config.trainer.default_local_dir)
    return [output] if checkpoints.is_relative_to(output) else [output, checkpoints]


def _checkpoints(root: Path) -> list[Path]:
    return [folder for folder in checkpoint_folders(root) if (folder / MANIFEST).is_file()]


def _held(config: DictConfig) -> str | None:
    """What a run has left in the folders, in words, or None."""
    whole = _checkpoints(Path(config.trainer.default_local_dir))
    if whole:
        return f"{whole[-1].parent} holds checkpoints up to {whole[-1].name}"
    metrics = Path(config.longrl.output_dir) / "metrics.jsonl"
    if metrics.is_file() and metrics.stat().st_size:
        return f"{metrics.parent} holds metrics of a run without checkpoints"
    return None


def _ways(config: DictConfig) -> str:
    folders = [str(folder) for folder in _folders(config)]
    apart = "" if len(folders) == 1 else " and another trainer.default_local_dir (CKPT_SAVE_PATH)"
    return (
        f"give this run its own folder with trainer.experiment_name=NAME (or longrl.output_dir=...){apart}, or delete "
        f"{' and '.join(folders)}"
    )


def _started_with(config: DictConfig) -> dict[str, Any]:
    """What the values of some keys stand for: files with their sizes, the model that a prepared folder was made of."""
    models = ("actor_rollout_ref.model.path", "reward.reward_model.model_path")
    paths = {key: OmegaConf.select(config, key) for key in models}
    started: dict[str, Any] = {key: path and model_folder.origin(path) for key, path in paths.items()}
    for key in ("train_files", "val_files"):
        files = config.data[key]
        started[f"data.{key}"] = [with_size(file) for file in ([files] if isinstance(files, str) else files)]
    return started


def with_size(file: str) -> str:
    """The file's name and, where it can be seen, its size."""
    return f"{file} ({Path(file).stat().st_size} bytes)" if Path(file).is_file() else file


def _identity(plain: Any, started_with: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of everything that decides what is trained."""
    free = [f"{section}.{key}" for section, keys in FREE.items() for key in keys]
    chosen = {
        key: value
        for key, value in _leaves(plain)
        if any(key == section or key.startswith(f"{section}.") for section in TRAINS)
        and not any(fnmatchcase(key, pattern) for pattern in free)
    }
    return {**chosen, **started_with}


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node
