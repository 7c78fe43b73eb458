"""Where verl wants flash-attn, and what is chosen where it is not installed.

verl has transformers load a model with `attn_implementation=flash_attention_2`, which raises without flash-attn,
and computes log-probabilities with its cross entropy, or else row by row. LongRL's own engines do not depend on it: the
shared prompt's attention replaces the model's (verl_longrl/engine/attention.py), and log-probabilities have a function
for where it is not installed (verl_longrl/engine/log_probs.py). It matters where a model's own attention is computed.
"""

import importlib.util
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from omegaconf import DictConfig, open_dict

from recipe.longrl.parallelism import parallel, uses_megatron
from recipe.longrl.preflight import cluster
from recipe.longrl.preflight.check import Check, Status
from recipe.longrl.preflight.environment import installed as installed_version

FLASH = "flash_attention_2"
WITHOUT_ULYSSES = ("sdpa", "eager", "flex_attention")
"""Implementations that verl does not exchange heads and tokens for: it patches flash attention's forward alone
(verl/models/transformers/monkey_patch.py)."""
INSTALL = "install flash-attn (LONGRL_BUILD_FLASH_ATTN=1 bash scripts/setup.sh gpu)"


class Role(NamedTuple):
    """A model that the trainer computes with. key: of its `model` node. tokens: computed together, on all GPUs that
    share them."""

    key: str
    model: DictConfig
    engine: str
    sequence: int
    sequence_key: str
    tokens: int

    @property
    def attention(self) -> str | None:
        """The implementation that is set."""
        return (self.model.override_config or {}).get("attn_implementation")

    @property
    def attention_key(self) -> str:
        return f"{self.key}.override_config.attn_implementation"


def installed() -> bool:
    """Whether flash-attn 2 is installed here: the distribution that transformers asks for, with its kernels. Its
    `flash_attn` folder alone may be flash-attn-4's."""
    return installed_version("flash-attn") is not None and importlib.util.find_spec("flash_attn_2_cuda") is not None


def roles(config: DictConfig) -> Iterator[Role]:
    """The actor with its reference, and the critic of methods that have one."""
    from verl.trainer.ppo.utils import need_critic

    actor, ranks = config.actor_rollout_ref.actor, parallel(config).sequence
    tokens = ranks * max(
        actor.ppo_max_token_len_per_gpu, config.actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu
    )
    key = f"actor_rollout_ref.{parallel(config).sequence_key}"
    yield Role("actor_rollout_ref.model", config.actor_rollout_ref.model, str(config.longrl.engine), ranks, key, tokens)
    with warnings.catch_warnings():  # that there is none
        warnings.simplefilter("ignore")
        with_critic = need_critic(config)
    if with_critic:
        critic, ranks = config.critic, config.critic.get("ulysses_sequence_parallel_size", 1)
        tokens = ranks * critic.ppo_max_token_len_per_gpu
        yield Role("critic.model", critic.model, "upstream", ranks, "critic.ulysses_sequence_parallel_size", tokens)


def choose(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """Set the attention of the trainer's models where the user has not, in place, and say what it costs.

    It comes after the engine's choice. One decision is made for all nodes, by what is installed where the run is
    started; every node is then asked whether it can do that (preflight/nodes/gpu_software.py).
    """
    if config.trainer.device != "cuda" or uses_megatron(config):
        return
    for role in roles(config):
        yield _chosen(config, role, dry_run)


def _chosen(config: DictConfig, role: Role, dry_run: bool) -> Check:
    shared, here, given = role.engine == "shared_prompt", installed(), role.attention
    if given in WITHOUT_ULYSSES and role.sequence > 1 and not shared:
        return Check("attention", "FAIL", f"{role.attention_key} = {given} {_needs_flash(role)}")
    if given == FLASH and not here:
        return _missing(config, f"{role.attention_key} = {FLASH}, and flash-attn is not installed here", dry_run)
    if given is not None:
        return Check("attention", "ok", f"{role.attention_key} = {given}, as set")
    chosen = FLASH if not shared and (here or role.sequence > 1) else "sdpa"
    with open_dict(config):
        role.model.override_config = {**(role.model.override_config or {}), "attn_implementation": chosen}
    if shared:
        detail = "the shared prompt's own, by torch; flash-attn is not needed"
        return Check("attention", "ok", f"{detail} (sdpa, with which the model is loaded, computes nothing)")
    if here:
        return Check("attention", "ok", f"{FLASH}, with flash-attn {installed_version('flash-attn')}")
    if chosen == FLASH:
        return _missing(config, f"flash-attn is not installed here, and sdpa {_needs_flash(role)}", dry_run)
    pairs = f"{role.tokens:,} x {role.tokens:,} tokens"
    detail = (
        f"sdpa, for flash-attn is not installed here: a mask of {pairs} ({3 * role.tokens**2 / 2**30:.1f} GiB in "
        "bytes and in bfloat16) for each micro-batch, and no pair of them is left out of the computation"
    )
    if role.engine == "upstream":
        detail += "; log-probabilities row by row, with three more copies of the logits"
    other = "" if role.engine == "upstream" and role.key == "critic.model" else "longrl.engine=auto, or "
    fix = f"Better: {other}{INSTALL}; where only the nodes have it, {role.attention_key}={FLASH}"
    return Check("attention", "warn", f"{detail}. {fix}")


def _needs_flash(role: Role) -> str:
    return (
        f"does not go with {role.sequence_key} = {role.sequence}: verl exchanges tokens for heads inside "
        f"flash-attn's forward alone, and each GPU would attend to nothing but its own part. Fix: "
        f"{role.sequence_key}=1, longrl.engine=auto, or {INSTALL} with {role.attention_key}={FLASH}"
    )


def _missing(config: DictConfig, what: str, dry_run: bool) -> Check:
    """A failure where this machine trains; else the nodes may have it, and are asked."""
    if dry_run or not cluster.starts_here(config):
        return Check("attention", "warn", f"{what}; every node that trains needs it")
    return Check("attention", "FAIL", f"{what}. Fix: {INSTALL}, or leave the choice to longrl.engine=auto")


def attention(config: DictConfig) -> str:
    """The attention that the actor computes: "shared_prompt", or an `attn_implementation` of transformers."""
    actor = next(roles(config))
    return "shared_prompt" if actor.engine == "shared_prompt" else actor.attention or FLASH


def findings(config: DictConfig, import_problem: str | None) -> Iterator[tuple[Status, str]]:
    """What a node's flash-attn means for the run. import_problem: None, "absent", or what its import said."""
    wanting = [role.attention_key for role in roles(config) if role.attention == FLASH]
    if wanting and import_problem is not None:
        said = "is not installed" if import_problem == "absent" else f"cannot be imported ({import_problem})"
        fix = f"{INSTALL}, or leave the choice to longrl.engine=auto"
        yield "FAIL", f"flash-attn {said}, and {' and '.join(wanting)} = {FLASH}. Fix: {fix}"
    elif import_problem not in (None, "absent"):
        yield (
            "warn",
            f"flash-attn is installed and cannot be imported ({import_problem}); the run does not use it, but "
            "libraries that look for it by its name may break. Fix: `uv pip uninstall flash-attn`, or a build for this "
            "torch",
        )
