"""Refuse to continue a run with a configuration that would train something else.

The first start of a run writes its resolved configuration into the run's folder. A later start in the same folder must
agree with it in every key of `MUST_MATCH`, the keys that decide what is trained. All other keys may change between
starts: hardware, memory, number of steps, logging, checkpoints.

Files and folders (data, model, tokenizer, scorers) are compared by content (`content_digest.py`), so a file may be
moved but not edited. Runs that were started before contents were stored are compared by path, data files also by size.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
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
"""Sections that the stored file has besides the configuration: the files and folders of the first start, and the
digests of their contents."""


def _keys(section: str, names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names.split())


SCORERS = "longrl.reward.scorers"
MODELS = (
    *_keys("actor_rollout_ref.model", "path tokenizer_path hf_config_path lora_adapter_path"),
    "reward.reward_model.model_path",
)
DATA_FILES = ("data.train_files", "data.val_files")
FREE_FORM = ("actor_rollout_ref.model.override_config", "data.apply_chat_template_kwargs")
"""Dictionaries that users extend: a key that only one of two configurations has is a difference."""

MUST_MATCH = (
    # The initial weights, and which of them are trained.
    *(*MODELS, "longrl.rope", "actor_rollout_ref.model.override_config"),
    *_keys("actor_rollout_ref.model", "custom_chat_template lora_rank lora_alpha target_modules exclude_modules"),
    # Megatron's adapters, multi-token prediction, and quantization-aware training.
    *("actor_rollout_ref.model.lora", "actor_rollout_ref.model.mtp", "actor_rollout_ref.actor.qat"),
    # Which prompts there are, in which order they are drawn, and which tokens they become. The held-out files do not
    # change the weights, but the validation curve of one run must be over one set of rows.
    *(*DATA_FILES, "data.custom_cls", "data.apply_chat_template_kwargs", "longrl.mix"),
    *_keys("data", "prompt_key train_max_samples val_max_samples shuffle seed filter_overlong_prompts truncation"),
    *_keys("data", "max_prompt_length max_response_length"),
    # How many prompts, rollouts and optimizer steps make a training step.
    *("data.train_batch_size", "actor_rollout_ref.rollout.n", "longrl.carry_steps"),
    *_keys("actor_rollout_ref.actor", "ppo_mini_batch_size ppo_epochs shuffle data_loader_seed"),
    # The distribution that rollouts are sampled from, in training and in validation.
    *_keys("actor_rollout_ref.rollout", "temperature top_p top_k do_sample ignore_eos seed dtype val_kwargs"),
    # The objective: advantages, filtering of groups, KL penalties and corrections, and the loss.
    *("algorithm", "longrl.advantage", "actor_rollout_ref.actor.policy_loss"),
    *_keys("actor_rollout_ref.actor", "clip_ratio clip_ratio_low clip_ratio_high clip_ratio_c loss_agg_mode"),
    *_keys("actor_rollout_ref.actor", "loss_scale_factor tau_pos tau_neg entropy_coeff"),
    *_keys("actor_rollout_ref.actor", "use_kl_loss kl_loss_coef kl_loss_type"),
    # The optimizer and its schedule, under the names of FSDP and of Megatron. The strategy also decides which engine
    # can read the checkpoints.
    *_keys("actor_rollout_ref.actor", "strategy grad_clip fsdp_config.model_dtype fsdp_config.dtype"),
    *_keys("actor_rollout_ref.actor.optim", "optimizer optimizer_impl override_optimizer_config lr weight_decay betas"),
    *_keys("actor_rollout_ref.actor.optim", "clip_grad lr_warmup_steps lr_warmup_steps_ratio lr_scheduler_type"),
    *_keys("actor_rollout_ref.actor.optim", "lr_decay_style lr_decay_steps min_lr min_lr_ratio num_cycles"),
    # For algorithms with a critic, what it learns with.
    *_keys("critic.optim", "optimizer lr weight_decay betas lr_warmup_steps lr_scheduler_type"),
    # The score of a response, but not how its scorer is run (processes, timeouts, servers, retries).
    *_keys("longrl.reward", "method eta beta paper_exact retrieval require_think answer scorers"),
    *_keys("longrl.judge", "model temperature max_tokens max_candidate_chars max_context_chars"),
)
"""Keys, and sections of keys, that decide what is trained."""

NOT_COMPARED = "actor_rollout_ref.model.override_config.attn_implementation"
"""The one key within those sections that may change: another implementation of the same attention."""

REPLACED = ("starts.jsonl", "run.json", "summary.json", "plots", "rollouts", "evaluate")
"""Names that a run writes to after its configuration, and that files of somebody else may have."""

MOST_SHOWN = 12


class RunMismatch(RuntimeError):
    """The folder belongs to a run that this configuration would not continue; the message lists the differences."""


def check_folder(config: DictConfig) -> str:
    """Describe what the folder of this resolved configuration holds. Raises RunMismatch if the run must not use it."""
    results = _describe_results(config)
    stored_files = [folder / STORED for folder in _folders(config) if (folder / STORED).is_file()]
    if results is None:
        _require_own_files(config, stored_files)
        return f"{config.longrl.output_dir} is new"
    if config.trainer.resume_mode == "disable" and _checkpoints(Path(config.trainer.default_local_dir)):
        raise RunMismatch(
            f"trainer.resume_mode = disable: {results}, and new checkpoints would be mixed with them.\n"
            f"Fix: {_fixes(config)}, or resume with trainer.resume_mode=auto"
        )
    if not stored_files:
        return f"continues: {results} (its version of LongRL stored no configuration, so nothing is compared)"
    content_digest.load_cache(Path(config.longrl.output_dir) / DIGESTS)
    stored_runs = [_read_stored(file) for file in stored_files]
    lines = sorted({line for stored in stored_runs for line in _list_differences(stored, config)})
    if lines:
        omitted = [f"and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
        first = f"{results}, of a run that was started with a different configuration:"
        raise RunMismatch("\n".join([first, *lines[:MOST_SHOWN], *omitted, f"Fix: {_fixes(config)}"]))
    if any(CONTENT not in stored for stored in stored_runs):
        return f"continues: {results} (its version of LongRL stored no digests: files are compared by path and size)"
    return f"continues: {results}"


def store_config(config: DictConfig) -> None:
    """Write the resolved configuration of a first start into the run's folder; call it before training starts."""
    first_start = _describe_results(config) is None
    folders = [folder for folder in _folders(config) if first_start or not (folder / STORED).is_file()]
    if folders:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        sections = {STARTED_WITH: _started_with(config), CONTENT: digest_contents(plain)}
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / STORED, yaml.safe_dump({**plain, **sections}, sort_keys=False, allow_unicode=True))
    cache = Path(config.longrl.output_dir) / DIGESTS
    digests = content_digest.dump_cache([*config.data.train_files, *config.data.val_files])
    if digests is not None and not (cache.is_file() and cache.read_text() == digests):
        # Without the cache the next start only reads the files again.
        with suppress(OSError):
            write_atomic(cache, digests)


def find_stored_config(checkpoints: Path) -> Path | None:
    """The stored configuration of the run whose checkpoints are in this folder, or None."""
    return next((file for file in (checkpoints / STORED, checkpoints.parent / STORED) if file.is_file()), None)


def list_differences(file: Path, config: DictConfig) -> list[str]:
    """`key: old -> new` for each key that must match a stored configuration and does not."""
    return _list_differences(_read_stored(file), config)


def digest_contents(plain: Any) -> dict[str, Content | list[Content]]:
    """Dotted key -> content of the files, folders and modules that a resolved configuration names, as far as they can
    be read from here."""
    contents: dict[str, Content | list[Content]] = {}
    for key, value in _compared_values(plain, {}).items():
        names = value if isinstance(value, list) else [value]
        digests = [_digest_one(key, name) if isinstance(name, str) else None for name in names]
        if any(digests):
            # What cannot be read is represented by its name.
            known = [digest or str(name) for digest, name in zip(digests, names, strict=True)]
            contents[key] = known if isinstance(value, list) else known[0]
    return contents


def with_size(file: str) -> str:
    """The file's name and, where it can be read, its size."""
    return f"{file} ({Path(file).stat().st_size} bytes)" if Path(file).is_file() else file


def _list_differences(stored: dict[str, Any], config: DictConfig) -> list[str]:
    plain = OmegaConf.to_container(config, resolve=True)
    before = _compared_values(stored, stored.get(STARTED_WITH, {}))
    now = _compared_values(plain, _started_with(config))
    contents_before = stored.get(CONTENT, {})
    contents_now = digest_contents(plain) if CONTENT in stored else {}
    lines: list[str] = []
    for key in {*before, *now}:
        if not (key in before and key in now) and not key.startswith(("longrl.", *FREE_FORM)):
            continue  # the versions of verl differ in which keys they have
        old, new = before.get(key, "absent"), now.get(key, "absent")
        if key in contents_before and key in contents_now:
            lines += _compare_contents(key, (old, new), contents_before[key], contents_now[key])
        elif old != new:
            lines.append(f"{key}: {old} -> {new}")
    return lines


def _compared_values(plain: Any, started_with: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of everything in MUST_MATCH; started_with takes precedence.

    Options of `longrl:` that a configuration does not mention have their defaults, so a run continues when a new
    version adds an option.
    """
    defaults = {"longrl": LongRLConfig.defaults()}
    values: dict[str, Any] = {}
    for key in MUST_MATCH:
        for source in (defaults, plain):
            values.update(_leaves(_select(source, key), key))
    values.pop(NOT_COMPARED, None)
    return {**values, **started_with}


def _select(plain: Any, key: str) -> Any:
    """The value of a dotted key; {} where there is none."""
    node = plain
    for name in key.split("."):
        node = node.get(name, {}) if isinstance(node, dict) else {}
    return node


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a section, except verl's notes on which class a section is for."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name != "_target_":
                yield from _leaves(value, f"{key}.{name}")
    else:
        yield key, node


def _digest_one(key: str, name: str) -> Content | None:
    """The content of the file, model or module that a value names; None where it names nothing that can be read."""
    try:
        if key in MODELS:
            return content_digest.digest_model(model_folder.original_model(name))
        if os.path.isfile(name) and (os.path.isabs(name) or name.endswith(".py")):
            return content_digest.digest_file(Path(name))
        return content_digest.digest_module(name) if key == SCORERS else None
    except OSError:  # the check that needs the file says why it cannot be read
        return None


def _compare_contents(key: str, names: tuple[Any, Any], before: Any, now: Any) -> Iterator[str]:
    """A line for each value of a key whose content differs. names: the values, before and now."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for at, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _compare_contents(f"{key}[{at}]", (names[0][at], names[1][at]), old, new)
    elif before != now:
        if isinstance(before, dict) and isinstance(now, dict):
            files = sorted(file for file in {*before, *now} if before.get(file) != now.get(file))
            changed = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        else:
            changed = " -> ".join(content if isinstance(content, str) else "files" for content in (before, now))
        yield f"{key}: {names[0]} -> {names[1]}, with different content: {changed}"


def _require_own_files(config: DictConfig, stored_files: list[Path]) -> None:
    """Raises RunMismatch where a first start would replace somebody else's files."""
    for file in stored_files:
        _read_stored(file)
    output = Path(config.longrl.output_dir)
    if output / STORED in stored_files:
        return
    if names := [name for name in REPLACED if _has_content(output / name)]:
        raise RunMismatch(
            f"{output} contains {', '.join(names)}, which no run wrote and this run would replace.\n"
            f"Fix: {_use_another_folder(config)}"
        )


def _has_content(path: Path) -> bool:
    """Whether there is anything to lose: an empty folder may be a mounted disk."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _read_stored(file: Path) -> dict[str, Any]:
    """A stored configuration. Raises RunMismatch where no run wrote it."""
    try:
        stored = yaml.safe_load(file.read_text())
    except (ValueError, yaml.YAMLError) as error:
        raise RunMismatch(f"{file} cannot be read: {error}\nFix: restore the file of the run's first start") from error
    if not isinstance(stored, dict) or not {"longrl", "trainer"} <= stored.keys():
        raise RunMismatch(f"{file} was not written by LongRL. Fix: give this run its own folder")
    return stored


def _folders(config: DictConfig) -> list[Path]:
    """The run's folder and, if they are elsewhere, the checkpoints'."""
    output, checkpoints = Path(config.longrl.output_dir), Path(config.trainer.default_local_dir)
    return [output] if checkpoints.is_relative_to(output) else [output, checkpoints]


def _checkpoints(root: Path) -> list[Path]:
    """The complete checkpoints."""
    return [folder for folder in checkpoint_folders(root) if (folder / MANIFEST).is_file()]


def _describe_results(config: DictConfig) -> str | None:
    """The results of a run that are in the folders, in words, or None."""
    complete = _checkpoints(Path(config.trainer.default_local_dir))
    if complete:
        return f"{complete[-1].parent} has checkpoints up to {complete[-1].name}"
    metrics = Path(config.longrl.output_dir) / "metrics.jsonl"
    if metrics.is_file() and metrics.stat().st_size:
        return f"{metrics.parent} has metrics of a run without checkpoints"
    return None


def _fixes(config: DictConfig) -> str:
    return f"{_use_another_folder(config)}, or delete {' and '.join(map(str, _folders(config)))}"


def _use_another_folder(config: DictConfig) -> str:
    separate = "" if len(_folders(config)) == 1 else " and another trainer.default_local_dir (CKPT_SAVE_PATH)"
    return f"give this run its own folder with trainer.experiment_name=NAME (or longrl.output_dir=...){separate}"


def _started_with(config: DictConfig) -> dict[str, Any]:
    """Keys whose values are compared in other words: data files with their sizes, and the model that a prepared folder
    was made from."""
    models = ("actor_rollout_ref.model.path", "reward.reward_model.model_path")
    paths = {key: OmegaConf.select(config, key) for key in models}
    started: dict[str, Any] = {key: path and model_folder.original_model(path) for key, path in paths.items()}
    for key in DATA_FILES:
        files = OmegaConf.select(config, key)
        started[key] = [with_size(file) for file in ([files] if isinstance(files, str) else files)]
    return started
