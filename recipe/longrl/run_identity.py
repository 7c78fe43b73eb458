"""A run's folder continues only the run that it holds.

The first start writes its resolved configuration beside what it produces. A later start in the same folder must agree
with it in everything that decides what is trained (`TRAINS`); how it is trained (memory, hardware, how long, what is
saved and logged) may change. Of what is named by a path (data, model, tokenizer, code of the user's) the content is
compared (`content_digest.py`), so that a moved file is the same one, and a changed one is not. A run that was started
before contents were stored is compared by path, and of data files by size.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from verl_longrl.config import LongRLConfig
from verl_longrl.trainer.checkpoints import MANIFEST, checkpoint_folders, write_atomic

from recipe.longrl import content_digest, model_folder
from recipe.longrl.content_digest import Content

STORED, DIGESTS = "config.yaml", "content.json"
STARTED_WITH, CONTENT = "started_with", "content"
"""Sections of the stored file that are no configuration: what files and folders were at the first start, in words, and
what they held."""

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
    "data": (
        *("*_workers", "use_shm", "cache_dir", "val_batch_size", "trust_remote_code"),
        "scorers",  # follows from longrl.reward.scorers
    ),
    # how scores are obtained, as long as they are the same scores
    "longrl.reward": ("timeout_s", "workers", "worker_memory_gib", "scorer_network", "max_failure_share"),
    "longrl.judge": (
        *("endpoints", "api_key_env", "concurrency", "timeout_s", "attempts", "*backoff_s", "cooldown_s", "cache_size"),
    ),
}
"""Keys within those sections that may differ all the same: memory, speed, hardware, logging."""

MODELS = (
    *(f"actor_rollout_ref.model.{key}" for key in ("path", "tokenizer_path", "hf_config_path", "lora_adapter_path")),
    "reward.reward_model.model_path",
)
SCORERS = "longrl.reward.scorers"

REPLACED = ("starts.jsonl", "summary.json", "plots", "rollouts")
"""What a run writes beside its configuration, which comes first, under names that others use too."""

MOST_SHOWN = 12


class OtherRun(RuntimeError):
    """The folder holds a run that this configuration would not continue; the message says how they differ."""


def check(config: DictConfig) -> str:
    """What the folder of this resolved configuration holds, in words. Raises OtherRun if it must not go on there."""
    held = _held(config)
    stored = [folder / STORED for folder in _folders(config) if (folder / STORED).is_file()]
    if held is None:
        _require_ours(config, stored)
        return f"{config.longrl.output_dir} is new"
    root = Path(config.trainer.default_local_dir)
    if config.trainer.resume_mode == "disable" and _checkpoints(root):
        raise OtherRun(
            f"trainer.resume_mode = disable, but {held}, which would be mixed with the new ones.\n"
            f"Fix: {_ways(config)}, or continue with trainer.resume_mode=auto"
        )
    if not stored:
        return f"continues: {held} (from before configurations were stored, so not compared)"
    content_digest.recall(Path(config.longrl.output_dir) / DIGESTS)
    runs = [_read(file) for file in stored]
    differing = sorted({line for run in runs for line in _differences(run, config)})
    if differing:
        more = [f"and {len(differing) - MOST_SHOWN} more"] if len(differing) > MOST_SHOWN else []
        first = f"{held}, of a run that was started with another configuration:"
        raise OtherRun("\n".join([first, *differing[:MOST_SHOWN], *more, f"Fix: {_ways(config)}"]))
    if any(CONTENT not in run for run in runs):
        return f"continues: {held} (from before contents were stored, so files are compared by path and size)"
    return f"continues: {held}"


def _is_taken(path: Path) -> bool:
    """Whether there is anything to lose: an empty folder may be a disk for what the run will write."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _require_ours(config: DictConfig, stored: list[Path]) -> None:
    """Raises OtherRun where a first start would replace somebody else's files."""
    for file in stored:
        _read(file)
    output = Path(config.longrl.output_dir)
    if output / STORED not in stored and (names := [name for name in REPLACED if _is_taken(output / name)]):
        raise OtherRun(
            f"{output} holds {', '.join(names)}, which no run wrote and this one would replace.\n"
            f"Fix: {_elsewhere(config)}"
        )


def store(config: DictConfig) -> None:
    """Write the resolved configuration of a first start into the run's folder; call it before training starts."""
    new = _held(config) is None
    lacking = [folder for folder in _folders(config) if new or not (folder / STORED).is_file()]
    if lacking:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        sections = {STARTED_WITH: _started_with(config), CONTENT: contents(plain)}
        for folder in lacking:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / STORED, yaml.safe_dump({**plain, **sections}, sort_keys=False, allow_unicode=True))
    memory = Path(config.longrl.output_dir) / DIGESTS
    digests = content_digest.remembered([*config.data.train_files, *config.data.val_files])
    if digests is not None and not (memory.is_file() and memory.read_text() == digests):
        with suppress(OSError):  # it only saves reading them again
            write_atomic(memory, digests)


def stored_beside(checkpoints: Path) -> Path | None:
    """The stored configuration of the run whose checkpoints are in this folder, or None."""
    return next((f for f in (checkpoints / STORED, checkpoints.parent / STORED) if f.is_file()), None)


def differences(file: Path, config: DictConfig) -> list[str]:
    """`key: old -> new` for each key that decides what is trained and is not as `file` says."""
    return _differences(_read(file), config)


def _differences(before: dict[str, Any], config: DictConfig) -> list[str]:
    plain = OmegaConf.to_container(config, resolve=True)
    if "longrl" in before:  # of an earlier version, it may lack keys that have defaults now
        block: Any = OmegaConf.merge(LongRLConfig.defaults(), before["longrl"])
        before = before | {"longrl": OmegaConf.to_container(block)}
    then, now = _identity(before, before.get(STARTED_WITH, {})), _identity(plain, _started_with(config))
    held, holds = before.get(CONTENT, {}), contents(plain) if CONTENT in before else {}
    lines: list[str] = []
    for key in {*then, *now}:
        old, new = (values.get(key, "absent") for values in (then, now))
        if key in held and key in holds:
            lines += _other_content(key, (old, new), held[key], holds[key])
        elif old != new:
            lines.append(f"{key}: {old} -> {new}")
    return lines


def contents(plain: Any) -> dict[str, Content | list[Content]]:
    """Dotted key -> content of the files, folders and modules that a resolved configuration names among what decides
    what is trained, as far as they can be seen from here."""
    found: dict[str, Content | list[Content]] = {}
    for key, value in _identity(plain, {}).items():
        values = value if isinstance(value, list) else [value]
        seen = [_content(key, one) if isinstance(one, str) else None for one in values]
        if any(seen):
            named = [one or str(name) for one, name in zip(seen, values, strict=True)]
            found[key] = named if isinstance(value, list) else named[0]
    return found


def _content(key: str, value: str) -> Content | None:
    try:
        if key in MODELS:
            return content_digest.of_model(model_folder.origin(value))
        if os.path.isfile(value) and (os.path.isabs(value) or value.endswith(".py")):
            return content_digest.of_file(Path(value))
        return content_digest.of_module(value) if key == SCORERS else None
    except OSError:  # whoever needs it says why it cannot be read
        return None


def _other_content(key: str, names: tuple[Any, Any], held: Any, holds: Any) -> Iterator[str]:
    """A line for each value of a key whose content differs. names: the values, before and now."""
    if isinstance(held, list) and isinstance(holds, list) and len(held) == len(holds):
        for at, (then, now) in enumerate(zip(held, holds, strict=True)):
            yield from _other_content(f"{key}[{at}]", (names[0][at], names[1][at]), then, now)
    elif held != holds:
        if isinstance(held, dict) and isinstance(holds, dict):
            files = sorted(file for file in {*held, *holds} if held.get(file) != holds.get(file))
            what = f"{', '.join(files[:5])}{f' and {len(files) - 5} more' if len(files) > 5 else ''}"
        else:
            what = " -> ".join(one if isinstance(one, str) else "files" for one in (held, holds))
        yield f"{key}: {names[0]} -> {names[1]}, with other content: {what}"


def _read(file: Path) -> dict[str, Any]:
    """A stored configuration. Raises OtherRun where it is none of ours."""
    try:
        found = yaml.safe_load(file.read_text())
    except (ValueError, yaml.YAMLError) as error:
        raise OtherRun(f"{file} cannot be read: {error}\nFix: put back what the run's first start wrote") from error
    if not isinstance(found, dict) or not {"longrl", "trainer"} <= found.keys():
        raise OtherRun(f"{file} was not written by a run of LongRL; give this run a folder of its own")
    return found


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
    return f"{_elsewhere(config)}, or delete {' and '.join(map(str, _folders(config)))}"


def _elsewhere(config: DictConfig) -> str:
    apart = "" if len(_folders(config)) == 1 else " and another trainer.default_local_dir (CKPT_SAVE_PATH)"
    return f"give this run its own folder with trainer.experiment_name=NAME (or longrl.output_dir=...){apart}"


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
