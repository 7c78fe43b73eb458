"""Compose the configuration, check it, and derive keys that follow from others.

Users set lengths, batch sizes and hardware. Keys that follow from these (vLLM's context length, checkpoint rotation,
RoPE scaling of both engines, absolute paths) are set here, in one place, so that they cannot disagree.
"""

import atexit
import difflib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from verl_longrl import secret_settings, secrets
from verl_longrl.config import LongRLConfig

from recipe.longrl import worker_env
from recipe.longrl.model_folder import ModelFolderError, prepare_model
from recipe.longrl.parallelism import uses_megatron
from recipe.longrl.pypi_models import PypiModelError, local_folder
from recipe.longrl.run_lock import other_holder

REQUIRED = ("data.train_files", "data.val_files", "actor_rollout_ref.model.path")


RESUME_MODES = ("auto", "disable", "resume_path")
MEGATRON_NAMES = {"grad_clip": "optim.clip_grad", "optim.lr_scheduler_type": "optim.lr_decay_style"}
"""Keys of actor_rollout_ref.actor: FSDP's names, which methods set, and Megatron's."""

GROUPS = ("method", "model", "hardware")
AT_LEAST_ONE = (
    *("trainer.nnodes", "trainer.n_gpus_per_node", "trainer.total_epochs", "data.train_batch_size"),
    *("data.max_prompt_length", "data.max_response_length", "reward.num_workers"),
    *("actor_rollout_ref.rollout.n", "actor_rollout_ref.actor.ppo_mini_batch_size"),
)
"""Keys that must be positive whole numbers."""
DERIVED_ON_CPUS = ("trainer.n_gpus_per_node", "data.max_prompt_length", "data.max_response_length")
"""Keys among them that may be null with hardware=cpu; `recipe.longrl.derived_settings` chooses their values."""


class SettingsError(ValueError):
    """A configuration that cannot be run; the message names the key, its value and the fix. Secrets are redacted."""

    def __init__(self, message: str) -> None:
        super().__init__(secrets.redact(message))


def force_free_key(override: str) -> str:
    """The override with Hydra's `++` (set, or add) before a key that Hydra need not know.

    Under `longrl.`, a mistyped key reaches LongRLConfig, which names the nearest valid one. A worker's environment
    variable may have any name.
    """
    return f"++{override}" if override.startswith(("longrl.", f"{worker_env.VARIABLES}.")) else override


def compose(overrides: list[str]) -> DictConfig:
    """Compose the configuration of these Hydra overrides. Raises SettingsError, with the nearest key to an unknown one.

    Every command that starts something calls it first, so it also loads the secrets that the user keeps in a file.
    """
    try:
        secrets.load()
    except secrets.SecretsError as error:
        raise SettingsError(str(error)) from error
    overrides = [force_free_key(_renamed(override)) for override in overrides]
    ConfigStore.instance().store("longrl_options", {"longrl": {"output_dir": MISSING, **LongRLConfig.defaults()}})
    # verl's files are found by folder: by package name, Hydra would import verl and torch, which takes seconds.
    ours = [f"hydra.searchpath=['file://{_verl_configs()}']"]
    with hydra.initialize_config_module("recipe.longrl.config", version_base=None):
        try:
            return hydra.compose("longrl_trainer", [*ours, *overrides])
        except MissingConfigException as error:
            raise SettingsError(_unknown_choice(error)) from error
        except HydraException as error:
            cause = error.__cause__
            key = getattr(cause, "full_key", None)
            if key is None:
                hint = ". Fix: quote a value with any of = , ( ) { } for Hydra: \"key='value'\""
                raise SettingsError(f"{error}{hint if isinstance(error, OverrideParseException) else ''}") from error
            known = _keys(hydra.compose("longrl_trainer", ours))
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.0)
            raise SettingsError(
                f"unknown key {key}; nearest valid ones: {', '.join(near)}. To add a key that verl does not list, "
                f"write +{key}=..."
            ) from error


def _renamed(override: str) -> str:
    """The override under its current name: `tmn=false` of method=golongrl is now a key of `longrl:`."""
    key, _, value = override.lstrip("+").partition("=")
    if key != "tmn":
        return override
    estimator = {"false": "upstream", "true": "tmn"}.get(value.lower())
    if estimator is None:
        raise SettingsError(f"tmn = {value}: expected true or false. Fix: use longrl.advantage.estimator=upstream")
    replacement = f"longrl.advantage.estimator={estimator}"
    print(f"{override} is deprecated: use {replacement}", file=sys.stderr)
    return replacement


def _verl_configs() -> Path:
    """The folder of verl's configuration files, without importing verl."""
    spec = importlib.util.find_spec("verl")
    if spec is None or spec.origin is None:
        raise SettingsError("verl is not installed here. Fix: bash scripts/setup.sh")
    return Path(spec.origin).parent / "trainer" / "config"


def choices(group: str) -> list[str]:
    """The choices of a configuration group, without those of the demos."""
    files = resources.files("recipe.longrl.config").joinpath(group).iterdir()
    names = sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))
    return [name for name in names if not name.startswith("demo")]


def _unknown_choice(error: MissingConfigException) -> str:
    """The error message for an unknown choice of a group, with the nearest one; Hydra's message for other groups."""
    group, _, choice = (error.missing_cfg_file or "").partition("/")
    if group not in GROUPS:
        return str(error)
    known = choices(group)
    near = difflib.get_close_matches(choice, known, n=1, cutoff=0.0)[0]
    hint = "; for any other model: model=custom actor_rollout_ref.model.path=FOLDER_OR_NAME" if group == "model" else ""
    return f"{group}={choice} is unknown; the nearest is {group}={near} (known: {', '.join(known)}){hint}"


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    """All dotted keys of a configuration."""
    keys: list[str] = []
    for name in map(str, node):
        keys.append(f"{prefix}{name}")
        value = node._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_missing():
            keys += _keys(value, f"{prefix}{name}.")
    return keys


def require_given(config: DictConfig, required: Sequence[str] = REQUIRED) -> None:
    """Raises SettingsError unless data and a model are named."""
    missing = [key for key in required if not OmegaConf.select(config, key)]
    if missing:
        raise SettingsError(
            f"{', '.join(missing)} must be given. Fix: set TRAIN_FILES, VAL_FILES and MODEL_PATH for run_longrl.sh, or "
            "add overrides such as data.train_files=[train.parquet]"
        )


def resolve(
    config: DictConfig, dry_run: bool = False, partial: bool = False, required: Sequence[str] = REQUIRED
) -> LongRLConfig:
    """Check the configuration and fill in derived keys, in place; returns the `longrl:` block. Raises SettingsError.

    dry_run: nothing will be started, so no weights are fetched. partial: the configuration is only printed, so data and
    model may be missing, and models are neither looked up nor prepared. required: the keys that must be given.
    """
    if not partial:
        require_given(config, required)
    try:
        secret_settings.refuse_secrets(plain(config))
    except (secret_settings.SecretSettingError, OmegaConfBaseException) as error:
        raise SettingsError(str(error)) from error
    _check_numbers(config)
    if config.trainer.v1.trainer_mode != "sync":
        raise SettingsError(
            f"trainer.v1.trainer_mode = {config.trainer.v1.trainer_mode}: LongRL's trainer is synchronous. Fix: leave "
            "out the key, or set trainer.v1.trainer_mode=sync"
        )
    _make_paths_absolute(config)
    _check_resume(config.trainer)
    _check_saving(config.actor_rollout_ref.actor.checkpoint)
    try:
        longrl = LongRLConfig.from_dict(plain(config.longrl))
    except (ValueError, OmegaConfBaseException) as error:
        raise SettingsError(str(error)) from error

    with open_dict(config):
        if uses_megatron(config):
            _rename(config.actor_rollout_ref.actor, MEGATRON_NAMES)
        follow_lengths(config)
        # Checkpoints are rotated by verl_longrl.trainer.checkpoints, because verl deletes the old checkpoint before the
        # new one is complete.
        for key in ("max_actor_ckpt_to_keep", "max_critic_ckpt_to_keep"):
            if config.trainer[key] is not None:
                raise SettingsError(
                    f"trainer.{key} = {config.trainer[key]}: not supported. Fix: use longrl.checkpoints_to_keep"
                )
        if longrl.log_rollouts:
            config.trainer.rollout_data_dir = f"{longrl.output_dir}/rollouts/train"
        if longrl.reward.answer.by == "reward_model":
            _serve_judge(config.reward, longrl)
            if config.trainer.n_gpus_per_node is not None:
                count_devices(config)
        if not partial:
            _prepare_models(config, longrl, weights=not dry_run)
        worker_env.drop_sizes_when_joining(config)
    try:
        worker_env.convert_variables_to_text(config)
        worker_env.env_of_config(config)
    except worker_env.ForwardError as error:
        raise SettingsError(str(error)) from error
    return longrl


def _check_numbers(config: DictConfig) -> None:
    """Require counts to be whole numbers of at least 1, and the trainer's frequencies to be whole numbers."""
    optional = ["trainer.total_training_steps", *(DERIVED_ON_CPUS if config.trainer.device == "cpu" else [])]
    for key in (*AT_LEAST_ONE, "trainer.total_training_steps", "trainer.save_freq", "trainer.test_freq"):
        value, frequency = OmegaConf.select(config, key), key.endswith("_freq")
        if value is None and key in optional:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and not frequency):
            expected = "a whole number of steps, or -1 for never" if frequency else "a whole number of at least 1"
            null = ", or null" if key in optional else ""
            raise SettingsError(f"{key} = {value}: expected {expected}{null}")


def _prepare_models(config: DictConfig, longrl: LongRLConfig, weights: bool) -> None:
    """Replace the models by folders whose config.json trainer, rollout engine and the judge's engine all support.

    They are in the run's folder, or in a temporary one while another process works there.
    """
    model, folder, judge = config.actor_rollout_ref.model, Path(longrl.output_dir), config.reward.reward_model
    if other_holder([folder]):
        folder = Path(tempfile.mkdtemp(prefix="longrl-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    lengths = (config.data.max_prompt_length, config.data.max_response_length)
    # Lengths that are still open are chosen later, within the model's limits.
    sequence = 0 if None in lengths else sum(lengths)
    longest = max(sequence, config.actor_rollout_ref.rollout.max_model_len or 0)
    try:
        source = local_folder(model.path)
        model.path = prepare_model(source, folder / "model", length=longest, rope=longrl.rope, weights=weights)
        if judge.enable and judge.model_path:
            longest = judge.rollout.max_model_len or 0
            source = local_folder(judge.model_path)
            judge.model_path = prepare_model(source, folder / "judge_model", length=longest, weights=weights)
    except (ModelFolderError, PypiModelError) as error:
        raise SettingsError(str(error)) from error


def follow_lengths(config: DictConfig) -> None:
    """Set vLLM's context length if both lengths are known; `derived_settings` may still have to choose them."""
    rollout, data = config.actor_rollout_ref.rollout, config.data
    if rollout.max_model_len is None and None not in (data.max_prompt_length, data.max_response_length):
        rollout.max_model_len = data.max_prompt_length + data.max_response_length


def count_devices(config: DictConfig) -> None:
    """Set the logical devices of a Ray that the run starts on the CPU, including those of a judge that verl serves."""
    judge, ray_init = config.reward.reward_model, config.ray_kwargs.ray_init
    if config.trainer.device == "cpu" and judge.enable and ray_init.get("num_gpus", 0) is not None:
        ray_init.num_gpus = cluster_gpus(config)


def _rename(node: DictConfig, names: dict[str, str]) -> None:
    """Move the values of dotted keys to other keys, where they exist."""
    for key, other in names.items():
        parent, _, name = key.rpartition(".")
        holder = OmegaConf.select(node, parent) if parent else node
        if name in holder:
            OmegaConf.update(node, other, holder.pop(name), force_add=True)


def _serve_judge(reward: DictConfig, longrl: LongRLConfig) -> None:
    """Make verl serve the judge on separate GPUs, so that scores can be computed while rollouts are generated."""
    judge = reward.reward_model
    if not judge.model_path:
        raise SettingsError(
            "longrl.reward.answer.by = reward_model needs the judge's model. Fix: reward.reward_model.model_path=... "
            "and, for its GPUs in addition to the trainer's, reward.reward_model.n_gpus_per_node=N, .nnodes=N, "
            ".rollout.tensor_model_parallel_size=N"
        )
    judge.enable = judge.enable_resource_pool = True
    judge.nnodes = judge.nnodes or 1
    judge.model_path = _absolute_folder(judge.model_path)
    rollout = judge.rollout
    if OmegaConf.is_missing(rollout, "name"):
        rollout.name = "vllm"
    # verl would put the engine to sleep at the start and, on separate GPUs, never wake it.
    rollout.free_cache_engine = False
    if rollout.max_model_len is None:
        # At most one token for each character, and 4096 for the judge's instructions and the question.
        quoted = longrl.judge.max_context_chars + longrl.judge.max_candidate_chars
        rollout.prompt_length, rollout.response_length = quoted + 4096, longrl.judge.max_tokens
        rollout.max_model_len = rollout.prompt_length + rollout.response_length
    # Without a custom reward function, verl treats the model as a classifier and ignores our reward manager. The
    # manager never calls this function.
    reward.custom_reward_function.path = "pkg://verl_longrl.rewards"
    reward.custom_reward_function.name = "score"


def cluster_gpus(config: DictConfig) -> int:
    """GPUs (logical devices on the CPU) of the whole run: the trainer's and, if verl serves one, the judge's."""
    judge = config.reward.reward_model
    of_judge = judge.nnodes * judge.n_gpus_per_node if judge.enable and judge.enable_resource_pool else 0
    return int(config.trainer.nnodes * config.trainer.n_gpus_per_node + of_judge)


def plain(node: DictConfig) -> dict[str, Any]:
    """A configuration node as a plain dictionary, interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))


def as_yaml(config: DictConfig, changed: bool = False) -> str:
    """A resolved configuration as text, LongRL's block first. changed: only values that differ from the defaults."""
    values = _changed(config) if changed else plain(config)
    ours = {"longrl": values.pop("longrl")} if "longrl" in values else {}
    return OmegaConf.to_yaml(OmegaConf.create({**ours, **values})) if ours or values else ""


def changed_values(config: DictConfig) -> dict[str, Any]:
    """Dotted key -> value of everything in a resolved configuration that differs from the defaults."""

    def leaves(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{path}{key}.")
            else:
                yield f"{path}{key}", value

    return dict(leaves(_changed(config), ""))


def _changed(config: DictConfig) -> dict[str, Any]:
    defaults = compose([])
    resolve(defaults, dry_run=True, partial=True)
    return _differing(plain(config), plain(defaults))


def _differing(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The entries of a nested dictionary that are not in `defaults` or differ there."""
    differing = {}
    for key, value in values.items():
        default = defaults.get(key, {} if isinstance(value, dict) else None)
        if isinstance(value, dict) and isinstance(default, dict):
            if inner := _differing(value, default):
                differing[key] = inner
        elif key not in defaults or value != default:
            differing[key] = value
    return differing


def is_url(path: str) -> bool:
    """Whether a path names another file system (hdfs://, s3://, ...)."""
    return "://" in path


def run_folders(config: DictConfig) -> list[Path]:
    """The folders of a composed configuration's run and of its checkpoints, made absolute in place.

    Raises SettingsError.
    """
    _check_name(config.trainer.experiment_name)
    keys = ("longrl.output_dir", "trainer.default_local_dir")
    for key in keys:
        path = OmegaConf.select(config, key)
        if not path or is_url(path):
            raise SettingsError(
                f"{key} = {path} must be a folder of this machine. Fix: mount it, or copy the run there later"
            )
        OmegaConf.update(config, key, _absolute(path))
    return [Path(OmegaConf.select(config, key)) for key in keys]


def _check_name(name: Any) -> None:
    """Require the run's name to be a valid name of a folder below outputs/."""
    text = str(name)
    if not text.strip() or not text.isprintable() or re.search(r"^[.\s]|[/\\]|\s$", text) or len(text.encode()) > 200:
        raise SettingsError(
            f"trainer.experiment_name = {text!r} must be the name of one folder: not empty, no / or \\, no control "
            "characters, no . or space at its beginning, at most 200 bytes. For another place: longrl.output_dir=FOLDER"
        )


def _make_paths_absolute(config: DictConfig) -> None:
    """Make paths absolute, because workers have other working directories."""
    run_folders(config)
    if config.trainer.resume_from_path is not None:
        config.trainer.resume_from_path = _absolute(config.trainer.resume_from_path)
    for key in ("data.train_files", "data.val_files"):
        files = OmegaConf.select(config, key)
        if files:
            OmegaConf.update(config, key, [_absolute(file) for file in ([files] if isinstance(files, str) else files)])
    scorers = config.longrl.reward.get("scorers")
    scorers = [scorers] if isinstance(scorers, str) else scorers
    # Scorers are files or importable modules. LongRLConfig refuses anything else.
    if isinstance(scorers, list | ListConfig):
        config.longrl.reward.scorers = [_absolute(s) if str(s).endswith(".py") else s for s in scorers]
    for key in ("path", "tokenizer_path", "hf_config_path", "lora_adapter_path"):
        model = config.actor_rollout_ref.model
        if model[key] is not None:
            model[key] = _absolute_folder(model[key])
    _make_suite_paths_absolute(config.longrl.evaluate)


def _make_suite_paths_absolute(evaluate: Any) -> None:
    """Make the paths of a profile's file and of suites' data absolute. LongRLConfig refuses values of other types."""
    given: Any = evaluate if isinstance(evaluate, DictConfig) else {}
    sets, profile = given.get("sets"), given.get("profile")
    if not (isinstance(sets, DictConfig) and isinstance(profile, str)):
        return
    known = sets
    if os.path.isfile(profile):
        evaluate.profile = _absolute(profile)
        # A file that cannot be read is a matter of the preflight.
        with suppress(OmegaConfBaseException, ValueError, yaml.YAMLError):
            merged: Any = OmegaConf.merge({"sets": {}}, OmegaConf.load(profile), {"sets": sets})
            known = merged.sets
    for name in map(str, known):
        path = OmegaConf.select(known, f"{name}.options.path")
        if isinstance(path, str):
            OmegaConf.update(sets, f"{name}.options.path", _absolute(path), force_add=True)


def _check_resume(trainer: DictConfig) -> None:
    """Refuse an unknown mode, and a path that the mode ignores; verl accepts both without a message."""
    mode, path = trainer.resume_mode, trainer.resume_from_path
    if mode not in RESUME_MODES:
        raise SettingsError(f"trainer.resume_mode = {mode}: expected one of {', '.join(RESUME_MODES)}")
    if mode == "resume_path" and path is None:
        raise SettingsError(
            "trainer.resume_mode = resume_path needs the checkpoint. Fix: trainer.resume_from_path=.../global_step_N"
        )
    if mode != "resume_path" and path is not None:
        raise SettingsError(
            f"trainer.resume_from_path = {path}: trainer.resume_mode = {mode} ignores it. Fix: set "
            "trainer.resume_mode=resume_path, or leave out the path"
        )
    if path is not None and is_url(path):
        raise SettingsError(
            f"trainer.resume_from_path = {path} must be a folder of this machine. Fix: mount or copy it"
        )


def _check_saving(checkpoint: DictConfig) -> None:
    """Refuse writes in the background, because nothing tells when such a checkpoint is complete."""
    if checkpoint.get("async_save"):
        raise SettingsError(
            "actor_rollout_ref.actor.checkpoint.async_save = true: not supported, because checkpoints are verified "
            "when they are written. Fix: leave it false"
        )


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(os.path.expanduser(path))


def _absolute_folder(path: str) -> str:
    """The absolute path of a folder; any other text is the name of a model on a hub and left as it is."""
    return _absolute(path) if os.path.isdir(os.path.expanduser(path)) else path
