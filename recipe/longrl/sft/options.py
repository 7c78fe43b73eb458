"""The options of supervised fine-tuning, and the run configuration that follows from them.

A supervised run is configured like any other run: the model, its chat template, hardware, folders and checkpoints have
the same keys. So a demonstration is encoded as a rollout of the run that follows. Only what differs has options of its
own, `sft.KEY=VALUE`, which are written over the keys that reinforcement learning uses for the same things. They are
then compared, checked and stored like those of any run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.data.demonstrations import DATASET
from verl_longrl.options import OneOrMore, Options

from recipe.longrl import settings

PREFIX = "sft."


@dataclass(frozen=True)
class SftOptions(Options):
    """Supervised fine-tuning on demonstrations."""

    train_files: OneOrMore = ()
    """Parquet files of demonstrations (`data_gen.demonstrations`)."""
    val_files: OneOrMore = ()
    """Held-out demonstrations. Their loss is measured before, during and after the training."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate after its warm-up. cosine: it falls to 0."""
    warmup_steps: NonNegativeInt = 0
    """Steps in which the learning rate rises to its peak."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay of AdamW."""
    batch_size: PositiveInt = 32
    """Demonstrations in one step."""
    epochs: PositiveInt = 1
    """Passes over the demonstrations."""
    steps: PositiveInt | None = None
    """Steps instead of epochs; null: `epochs` decides."""
    save_freq: PositiveInt = 50
    """A checkpoint is written every so many steps, and at the end."""
    test_freq: PositiveInt | None = 10
    """The held-out loss is measured every so many steps; null: only before and after."""
    max_imperfect: NonNegativeInt = 0
    """Demonstrations of each file that may score less than full marks. Incomplete ones leave something for
    reinforcement learning to improve."""


def split_options(arguments: Sequence[str]) -> tuple[SftOptions, list[str]]:
    """The options in `sft.KEY=VALUE` arguments, and the other arguments. Raises SettingsError."""
    ours = [argument.removeprefix(PREFIX) for argument in arguments if argument.startswith(PREFIX)]
    others = [argument for argument in arguments if not argument.startswith(PREFIX)]
    try:
        return SftOptions.from_dict(settings.plain(OmegaConf.from_dotlist(ours)), PREFIX), others
    except ValueError as error:
        raise settings.SettingsError(str(error)) from error


def as_arguments(options: SftOptions) -> list[str]:
    """The arguments that `split_options` reads these options from."""
    # JSON is YAML, in which values of a dotlist are written.
    return [f"{PREFIX}{key}={json.dumps(value)}" for key, value in asdict(options).items()]


def apply_options(config: DictConfig, options: SftOptions) -> None:
    """Write the options into a composed configuration, in place; nothing else of it is about rollouts then."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    with open_dict(config):
        config.data.custom_cls = dict(DATASET)
        config.data.train_files, config.data.val_files = list(options.train_files), list(options.val_files)
        config.data.train_max_samples = config.data.val_max_samples = -1
        config.data.train_batch_size = actor.ppo_mini_batch_size = options.batch_size
        actor.optim.lr, actor.optim.weight_decay = options.lr, options.weight_decay
        actor.optim.lr_warmup_steps = options.warmup_steps
        actor.optim.lr_scheduler_type = options.schedule
        trainer = config.trainer
        # A step of an epoch of its own is the longest way to a number of steps.
        trainer.total_epochs, trainer.total_training_steps = options.steps or options.epochs, options.steps
        trainer.save_freq, trainer.test_freq = options.save_freq, options.test_freq or -1
        # One response for each prompt, no reference policy, no vLLM beside the trainer, no judge.
        rollout.n = rollout.tensor_model_parallel_size = 1
        rollout.free_cache_engine, rollout.gpu_memory_utilization = False, 0.0
        actor.use_kl_loss = config.algorithm.use_kl_in_reward = config.algorithm.filter_groups.enable = False
        OmegaConf.update(config, "longrl.reward.answer.by", "rule", force_add=True)
        config.longrl.log_rollouts, config.longrl.samples_per_step = False, 0


def trainer_config(config: DictConfig) -> dict[str, Any]:
    """The configuration of verl's SFT trainer for a checked run, as plain values."""
    plain = settings.plain(config)
    model, actor, trainer = plain["actor_rollout_ref"]["model"], plain["actor_rollout_ref"]["actor"], plain["trainer"]
    budget = actor["ppo_max_token_len_per_gpu"]
    tokens = {"use_dynamic_bsz": True, "max_token_len_per_gpu": budget, "infer_max_token_len_per_gpu": budget}
    return {
        "model": model,
        "engine": {
            **actor["fsdp_config"],
            "strategy": actor["strategy"],
            "ulysses_sequence_parallel_size": actor["ulysses_sequence_parallel_size"],
            **tokens,
        },
        "optim": {**actor["optim"], "clip_grad": actor["grad_clip"]},
        "checkpoint": actor["checkpoint"],
        "profiler": actor["profiler"],
        "data": {
            **plain["data"],
            "max_token_len_per_gpu": budget,
            "use_dynamic_bsz": True,
            "micro_batch_size_per_gpu": None,
            "pad_mode": "no_padding",
        },
        "trainer": {**trainer, "profile_interval": [-1, -1]},
        "longrl": plain["longrl"],
    }
