"""From the composed configuration to a consistent one: what follows from other keys is set here, once.

Users set lengths, batch, hardware. Everything that merely follows (vLLM's context length, checkpoint rotation, RoPE
on both engines, quiet placement of files) is derived, so that it cannot disagree.
"""

import os

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from verl_longrl.config import LongRLConfig


REQUIRED = ("data.train_files", "data.val_files", "actor_rollout_ref.model.path")


class SettingsError(ValueError):
    """A configuration that cannot be run; the message names the key, its value and the fix."""


def resolve(config: DictConfig) -> LongRLConfig:
    """Check the `longrl:` block and fill in derived keys, in place. Raises SettingsError."""
    missing = [key for key in REQUIRED if not OmegaConf.select(config, key)]
    if missing:
        raise SettingsError(
            f"{', '.join(missing)} must be given. With run_longrl.sh set TRAIN_FILES, VAL_FILES, MODEL_PATH; "
            "otherwise e.g. data.train_files=[train.parquet]"
        )
    _make_paths_absolute(config)
    try:
        longrl = LongRLConfig.from_dict(OmegaConf.to_container(config.longrl, resolve=True))
    except (ValueError, TypeError, OmegaConfBaseException) as error:
        raise SettingsError(f"longrl: {error}") from error

    rollout, data = config.actor_rollout_ref.rollout, config.data
    with open_dict(config):
        if rollout.max_model_len is None:
            rollout.max_model_len = data.max_prompt_length + data.max_response_length
        # Rotation is ours (verl_longrl.trainer.checkpoints): upstream's deletes the old before the new is whole.
        for key in ("max_actor_ckpt_to_keep", "max_critic_ckpt_to_keep"):
            if config.trainer[key] is not None:
                raise SettingsError(f"trainer.{key} = {config.trainer[key]}: use longrl.checkpoints_to_keep instead")
        if longrl.log_rollouts:
            config.trainer.rollout_data_dir = f"{longrl.output_dir}/rollouts"
    if longrl.reward.answer.by == "reward_model" and not (
        config.reward.reward_model.enable and config.reward.reward_model.enable_resource_pool
    ):
        raise SettingsError(
            "longrl.reward.answer.by = reward_model needs the judge served by verl on its own GPUs: set "
            "reward.reward_model.enable=true reward.reward_model.enable_resource_pool=true "
            "reward.reward_model.model_path=... reward.reward_model.rollout.name=vllm"
        )
    return longrl


def _make_paths_absolute(config: DictConfig) -> None:
    """Workers start in directories of their own, so what is relative to the user's becomes absolute."""
    for key in ("longrl.output_dir", "trainer.default_local_dir"):
        OmegaConf.update(config, key, os.path.abspath(OmegaConf.select(config, key)))
    for key in ("data.train_files", "data.val_files"):
        files = OmegaConf.select(config, key)
        files = [files] if isinstance(files, str) else list(files)
        OmegaConf.update(config, key, [os.path.abspath(os.path.expanduser(file)) for file in files])
    model = config.actor_rollout_ref.model
    if os.path.isdir(os.path.expanduser(model.path)):  # else the name of a model on a hub
        model.path = os.path.abspath(os.path.expanduser(model.path))
