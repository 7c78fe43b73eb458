"""Choose the attention implementation of the trainer's models, also where flash-attn is not installed.

verl loads models with `attn_implementation=flash_attention_2`, which raises an error without flash-attn, and computes
log-probabilities with flash-attn's cross entropy, or otherwise row by row. LongRL's engines do not need flash-attn: the
shared prompt's attention replaces the model's (verl_longrl/engine/attention.py), and log-probabilities have a
replacement (verl_longrl/engine/log_probs.py). So it matters only where a model's own attention is computed.
"""

import importlib.util
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from omegaconf import DictConfig, open_dict

from recipe.longrl.parallelism import parallel, uses_megatron
from recipe.longrl.preflight import cluster
from recipe.longrl.preflight.check import Check, Status
from recipe.longrl.versions import installed_version

FLASH = "flash_attention_2"
WITHOUT_ULYSSES = ("sdpa", "eager", "flex_attention")
"""Implementations without sequence parallelism: verl exchanges heads and tokens only in flash attention's forward
(verl/models/transformers/monkey_patch.py)."""
INSTALL = "install flash-attn (LONGRL_BUILD_FLASH_ATTN=1 bash scripts/setup.sh gpu)"


class TrainedModel(NamedTuple):
    """A model that the trainer runs forward passes with."""

    key: str
    """Dotted key of its `model` node."""
    model: DictConfig
    engine: str
    sequence: int
    """GPUs that share a sequence, set by `sequence_key`."""
    sequence_key: str
    tokens: int
    """Tokens of a micro-batch, over all GPUs that share it."""

    @property
    def attention(self) -> str | None:
        """The implementation that is set, or None."""
        return (self.model.override_config or {}).get("attn_implementation")

    @property
    def attention_key(self) -> str:
        return f"{self.key}.override_config.attn_implementation"


def installed() -> bool:
    """Whether flash-attn 2 is installed here: the distribution that transformers looks for, with its kernels.

    A `flash_attn` folder alone may belong to flash-attn-4.
    """
    return installed_version("flash-attn") is not None and importlib.util.find_spec("flash_attn_2_cuda") is not None


def trained_models(config: DictConfig) -> Iterator[TrainedModel]:
    """The actor (which shares its settings with the reference), and the critic of methods that have one."""
    from verl.trainer.ppo.utils import need_critic

    actor, ranks = config.actor_rollout_ref.actor, parallel(config).sequence
    tokens = ranks * max(
        actor.ppo_max_token_len_per_gpu, config.actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu
    )
    key = f"actor_rollout_ref.{parallel(config).sequence_key}"
    yield TrainedModel(
        "actor_rollout_ref.model", config.actor_rollout_ref.model, str(config.longrl.engine), ranks, key, tokens
    )
    # verl warns when there is no critic.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with_critic = need_critic(config)
    if with_critic:
        critic, ranks = config.critic, config.critic.get("ulysses_sequence_parallel_size", 1)
        tokens = ranks * critic.ppo_max_token_len_per_gpu
        yield TrainedModel(
            "critic.model", critic.model, "upstream", ranks, "critic.ulysses_sequence_parallel_size", tokens
        )


def choose_attention(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """Set the attention of the trainer's models where the user has not, in place, and report what it costs.

    Call it after the engine is chosen. The choice depends on what is installed where the run is started and holds for
    all nodes; a check on every node reports whether it works there (preflight/nodes/gpu_software.py).
    """
    if config.trainer.device != "cuda" or uses_megatron(config):
        return
    for role in trained_models(config):
        yield _choose_for_model(config, role, dry_run)


def _choose_for_model(config: DictConfig, role: TrainedModel, dry_run: bool) -> Check:
    shared, here, setting = role.engine == "shared_prompt", installed(), role.attention
    if setting in WITHOUT_ULYSSES and role.sequence > 1 and not shared:
        return Check("attention", "FAIL", f"{role.attention_key} = {setting} {_needs_flash(role)}")
    if setting == FLASH and not here:
        return _missing(config, f"{role.attention_key} = {FLASH}: flash-attn is not installed here", dry_run)
    if setting is not None:
        return Check("attention", "ok", f"{role.attention_key} = {setting}, as set")
    chosen = FLASH if not shared and (here or role.sequence > 1) else "sdpa"
    with open_dict(config):
        role.model.override_config = {**(role.model.override_config or {}), "attn_implementation": chosen}
    if shared:
        detail = "the shared prompt's attention, in torch; flash-attn is not needed"
        return Check("attention", "ok", f"{detail} (the model is loaded with sdpa, which is not used)")
    if here:
        return Check("attention", "ok", f"{FLASH}, with flash-attn {installed_version('flash-attn')}")
    if chosen == FLASH:
        return _missing(config, f"flash-attn is not installed here, and sdpa {_needs_flash(role)}", dry_run)
    pairs = f"{role.tokens:,} x {role.tokens:,} tokens"
    detail = (
        f"sdpa, because flash-attn is not installed here: each micro-batch has a mask of {pairs} "
        f"({3 * role.tokens**2 / 2**30:.1f} GiB in bytes and in bfloat16), and masked pairs are computed, too"
    )
    if role.engine == "upstream":
        detail += "; log-probabilities are computed row by row, with three more copies of the logits"
    other = "" if role.engine == "upstream" and role.key == "critic.model" else "longrl.engine=auto, or "
    fix = f"Better: {other}{INSTALL}; if only the nodes have it, {role.attention_key}={FLASH}"
    return Check("attention", "warn", f"{detail}. {fix}")


def _needs_flash(role: TrainedModel) -> str:
    return (
        f"does not work with {role.sequence_key} = {role.sequence}: verl exchanges tokens for heads only in "
        f"flash-attn's forward, so each GPU would attend only to its own part. Fix: "
        f"{role.sequence_key}=1, longrl.engine=auto, or {INSTALL} with {role.attention_key}={FLASH}"
    )


def _missing(config: DictConfig, problem: str, dry_run: bool) -> Check:
    """A failure if this machine trains; otherwise a warning, because the nodes may have it and are checked."""
    if dry_run or not cluster.starts_own_ray(config):
        return Check("attention", "warn", f"{problem}; every node that trains needs it")
    return Check("attention", "FAIL", f"{problem}. Fix: {INSTALL}, or leave the choice to longrl.engine=auto")


def actor_attention(config: DictConfig) -> str:
    """The attention that the actor uses: "shared_prompt", or an `attn_implementation` of transformers."""
    actor = next(trained_models(config))
    return "shared_prompt" if actor.engine == "shared_prompt" else actor.attention or FLASH


def check_node(config: DictConfig, import_problem: str | None) -> Iterator[tuple[Status, str]]:
    """The problems that a node's flash-attn causes. import_problem: None, "absent", or the error of its import."""
    keys = [role.attention_key for role in trained_models(config) if role.attention == FLASH]
    if keys and import_problem is not None:
        problem = "is not installed" if import_problem == "absent" else f"cannot be imported ({import_problem})"
        fix = f"{INSTALL}, or leave the choice to longrl.engine=auto"
        yield "FAIL", f"{' and '.join(keys)} = {FLASH}: flash-attn {problem}. Fix: {fix}"
    elif import_problem not in (None, "absent"):
        yield (
            "warn",
            f"flash-attn is installed and cannot be imported ({import_problem}); the run does not use it, but "
            "libraries that look for it by its name may break. Fix: `uv pip uninstall flash-attn`, or a build for this "
            "torch",
        )
