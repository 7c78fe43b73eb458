"""From the composed configuration to a consistent one: what follows from other keys is set here, once.

Users set lengths, batch, hardware. Everything that merely follows (vLLM's context length, checkpoint rotation, RoPE
on both engines, quiet placement of files) is derived, so that it cannot disagree.
"""

import difflib
import os
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from verl_longrl.config import LongRLConfig

from recipe.longrl import workers
from recipe.longrl.parallel import uses_megatron
from recipe.longrl.rope import RopeError, with_rope

REQUIRED = ("data.train_files", "data.val_files", "actor_rollout_ref.model.path")


MEGATRON_NAMES = {"grad_clip": "optim.clip_grad", "optim.lr_scheduler_type": "optim.lr_decay_style"}
"""Keys of actor_rollout_ref.actor that methods set under FSDP's names, and what Megatron's configuration calls them."""


class SettingsError(ValueError):
    """A configuration that cannot be run; the message names the key, its value and the fix."""


def compose(overrides: list[str]) -> DictConfig:
    """The configuration of these Hydra overrides. Raises SettingsError naming an unknown key's nearest valid one."""
    # `++` lets a mistyped longrl.* key through to LongRLConfig, which knows what it could have been, and a variable of
    # any name to the workers.
    free = ("longrl.", f"{workers.VARIABLES}.")
    overrides = [f"++{override}" if override.startswith(free) else override for override in overrides]
    with hydra.initialize_config_module("recipe.longrl.config", version_base=None):
        try:
            return hydra.compose("longrl_trainer", overrides)
        except HydraException as error:
            cause = error.__cause__
            key = getattr(cause, "full_key", None)
            if key is None:
                hint = "; a value with any of = , ( ) { } is quoted for Hydra: \"key='value'\""
                raise SettingsError(f"{error}{hint if isinstance(error, OverrideParseException) else ''}") from error
            known = _keys(hydra.compose("longrl_trainer"))
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.0)
            raise SettingsError(
                f"unknown key {key}; nearest valid ones: {', '.join(near)}. A key that upstream does not list is added "
                f"with +{key}=..."
            ) from error


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    """All dotted keys of a configuration."""
    keys: list[str] = []
    for name in map(str, node):
        keys.append(f"{prefix}{name}")
        value = node._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_missing():
            keys += _keys(value, f"{prefix}{name}.")
    return keys


def resolve(config: DictConfig, dry_run: bool = False) -> LongRLConfig:
    """Check the `longrl:` block and fill in derived keys, in place. Raises SettingsError.

    dry_run: nothing will be started, so no weights are fetched.
    """
    missing = [key for key in REQUIRED if not OmegaConf.select(config, key)]
    if missing:
        raise SettingsError(
            f"{', '.join(missing)} must be given. With run_longrl.sh set TRAIN_FILES, VAL_FILES, MODEL_PATH; "
            "otherwise e.g. data.train_files=[train.parquet]"
        )
    _make_paths_absolute(config)
    if config.get("tmn") is False:  # method=golongrl tmn=false
        config.longrl.advantage.estimator = "upstream"
    try:
        longrl = LongRLConfig.from_dict(plain(config.longrl))
    except (ValueError, TypeError, OmegaConfBaseException) as error:
        raise SettingsError(f"longrl: {error}") from error

    with open_dict(config):
        if uses_megatron(config):
            _rename(config.actor_rollout_ref.actor, MEGATRON_NAMES)
        follow_lengths(config)
        # Rotation is ours (verl_longrl.trainer.checkpoints): upstream's deletes the old before the new is whole.
        for key in ("max_actor_ckpt_to_keep", "max_critic_ckpt_to_keep"):
            if config.trainer[key] is not None:
                raise SettingsError(f"trainer.{key} = {config.trainer[key]}: use longrl.checkpoints_to_keep instead")
        if longrl.rope is not None:
            model, target = config.actor_rollout_ref.model, Path(longrl.output_dir) / "model"
            try:
                model.path = str(with_rope(model.path, longrl.rope, target, weights=not dry_run))
            except RopeError as error:
                raise SettingsError(str(error)) from error
        if longrl.log_rollouts:
            config.trainer.rollout_data_dir = f"{longrl.output_dir}/rollouts"
        if longrl.reward.answer.by == "reward_model":
            _serve_judge(config.reward, longrl)
            if config.trainer.n_gpus_per_node is not None:
                count_devices(config)
        workers.leave_sizes_to_the_cluster(config)
    try:
        workers.variables_as_text(config)
        workers.carried(os.environ)
    except workers.ForwardError as error:
        raise SettingsError(str(error)) from error
    return longrl


def follow_lengths(config: DictConfig) -> None:
    """vLLM's context length, where both lengths are known; `recipe.longrl.derived` may still have to choose them."""
    rollout, data = config.actor_rollout_ref.rollout, config.data
    if rollout.max_model_len is None and None not in (data.max_prompt_length, data.max_response_length):
        rollout.max_model_len = data.max_prompt_length + data.max_response_length


def count_devices(config: DictConfig) -> None:
    """The logical devices of a Ray that the run starts on the CPU: with those of a judge that verl serves."""
    judge, ray_init = config.reward.reward_model, config.ray_kwargs.ray_init
    if config.trainer.device == "cpu" and judge.enable and ray_init.get("num_gpus", 0) is not None:
        ray_init.num_gpus = cluster_gpus(config)


def _rename(node: DictConfig, names: dict[str, str]) -> None:
    """Move values from one dotted key to another, where there are any."""
    for key, other in names.items():
        parent, _, name = key.rpartition(".")
        holder = OmegaConf.select(node, parent) if parent else node
        if name in holder:
            OmegaConf.update(node, other, holder.pop(name), force_add=True)


def _serve_judge(reward: DictConfig, longrl: LongRLConfig) -> None:
    """Have verl serve the judge on GPUs of its own, which is how scores can be computed while rollouts still run."""
    judge = reward.reward_model
    if not judge.model_path:
        raise SettingsError(
            "longrl.reward.answer.by = reward_model needs the judge's model: reward.reward_model.model_path=... "
            "(and for its GPUs, which come on top of the trainer's, reward.reward_model.n_gpus_per_node=N, .nnodes=N, "
            ".rollout.tensor_model_parallel_size=N)"
        )
    judge.enable = judge.enable_resource_pool = True
    judge.nnodes = judge.nnodes or 1
    judge.model_path = _absolute_folder(judge.model_path)
    rollout = judge.rollout
    if OmegaConf.is_missing(rollout, "name"):
        rollout.name = "vllm"
    rollout.free_cache_engine = False  # upstream would put it to sleep at the start and, on its own GPUs, never wake it
    if rollout.max_model_len is None:  # a token per character is the most that a question can need
        quoted = longrl.judge.max_context_chars + longrl.judge.max_candidate_chars
        rollout.prompt_length, rollout.response_length = quoted + 4096, longrl.judge.max_tokens
        rollout.max_model_len = rollout.prompt_length + rollout.response_length
    # Without a reward function of the user's, upstream takes the model for a classifier and passes our manager by.
    # The manager never calls this one.
    reward.custom_reward_function.path = "pkg://verl_longrl.rewards"
    reward.custom_reward_function.name = "score"


def cluster_gpus(config: DictConfig) -> int:
    """GPUs (logical devices on the CPU) of the whole run: the trainer's and, if verl serves one, the judge's."""
    judge = config.reward.reward_model
    own = judge.nnodes * judge.n_gpus_per_node if judge.enable and judge.enable_resource_pool else 0
    return int(config.trainer.nnodes * config.trainer.n_gpus_per_node + own)


def plain(node: DictConfig) -> dict[str, Any]:
    """A configuration node as a plain dictionary, interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))


def is_url(path: str) -> bool:
    """Whether a path names another file system (hdfs://, s3://, ...)."""
    return "://" in path


def _make_paths_absolute(config: DictConfig) -> None:
    """Workers start in directories of their own, so what is relative to the user's becomes absolute."""
    for key in ("longrl.output_dir", "trainer.default_local_dir"):
        path = OmegaConf.select(config, key)
        if is_url(path):
            raise SettingsError(f"{key} = {path} must be a folder of this machine; mount it, or copy it later")
        OmegaConf.update(config, key, _absolute(path))
    for key in ("data.train_files", "data.val_files"):
        files = OmegaConf.select(config, key)
        OmegaConf.update(config, key, [_absolute(file) for file in ([files] if isinstance(files, str) else files)])
    scorers = config.longrl.reward.get("scorers")
    if isinstance(scorers, ListConfig):  # files, or importable modules; anything else LongRLConfig refuses
        config.longrl.reward.scorers = [_absolute(s) if str(s).endswith(".py") else s for s in scorers]
    for key in ("path", "tokenizer_path", "hf_config_path", "lora_adapter_path"):
        model = config.actor_rollout_ref.model
        if model[key] is not None:
            model[key] = _absolute_folder(model[key])


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(os.path.expanduser(path))


def _absolute_folder(path: str) -> str:
    """Absolute if it is a folder here; else it is the name of a model on a hub."""
    return _absolute(path) if os.path.isdir(os.path.expanduser(path)) else path
