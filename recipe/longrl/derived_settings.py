"""Choose the settings that a hardware group leaves open (null), from the model, the data and memory, and report them.

    data.max_prompt_length, max_response_length    longest prompt of the data; RESPONSE; within the model's positions
    trainer.n_gpus_per_node                        logical devices of the CPU: as many of DEVICES as fit into memory
    VLLM_CPU_KVCACHE_SPACE                         GiB: 1, or the size of one longest sequence
    actor.ppo_max_token_len_per_gpu                as many tokens as fit into memory, at most MOST_TOKENS
    update_weights_bucket_megabytes                the usual size, or that of the largest tensor (also on GPUs)

A value that is set is never changed; if it cannot work, another check refuses it. Only hardware=cpu leaves the first
four open; on GPUs the published values are set.
"""

import math
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, open_dict

from recipe.longrl import memory, model_folder, settings
from recipe.longrl.memory import advice
from recipe.longrl.parallelism import n_gpus, parallel
from recipe.longrl.preflight.check import Check

RESPONSE, LEAST_RESPONSE = 512, 64
"""Tokens of a response on a CPU (an eighth of the published length), and the fewest that it may have."""
DEVICES = (2, 1)
MOST_TOKENS = 32768
BUCKET = {"cpu": 16, "cuda": 2048}
"""MB of the buffer that transfers a small model's weights; on GPUs, verl's default."""
PROCESSES_GIB, PROCESSES_PER_DEVICE_GIB = 4.0, 1.35
"""Host memory with hardware=cpu besides ranks, vLLM's weights and KV cache, measured with two devices. The first is for
the driver, task runner, agent loop, reward worker and TransferQueue; the second, for each device, is for a vLLM server
and its engine."""

BUDGET = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
CACHE = "VLLM_CPU_KVCACHE_SPACE"


def derive_lengths(
    config: DictConfig, shape: Any | None, longest: Callable[[DictConfig], int | None]
) -> Iterator[Check]:
    """Fill in the lengths of prompts and responses that are null, in place, and report the choice.

    shape: the model's Hugging Face config, None if it cannot be read. longest: returns the tokens of the data's longest
    prompt, None if the data cannot be read; called only if needed. Raises SettingsError when neither is known.
    """
    data = config.data
    if None not in (data.max_prompt_length, data.max_response_length):
        return
    positions = None if shape is None else getattr(shape.get_text_config(), "max_position_embeddings", None)
    exact = model_folder.exact_length(config.actor_rollout_ref.model.path)
    positions = min(filter(None, (positions, exact)), default=None)
    needed = longest(config) if data.max_prompt_length is None else data.max_prompt_length
    if positions is None and needed is None:
        raise settings.SettingsError(
            "data.max_prompt_length = null: not chosen, because neither the model's positions nor the data can be read."
            f" Fix: check actor_rollout_ref.model.path = {config.actor_rollout_ref.model.path} and "
            f"data.train_files = {list(data.train_files)}, or set data.max_prompt_length and data.max_response_length"
        )
    chosen = []
    if data.max_response_length is None:
        room = RESPONSE if positions is None else positions - (needed or 0)
        if positions is not None and room < LEAST_RESPONSE:
            # The check of the data names the prompts that are too long.
            room = positions // 8
        data.max_response_length = min(RESPONSE, room)
        chosen.append(f"data.max_response_length = {data.max_response_length} (at most {RESPONSE} by default)")
    if data.max_prompt_length is None:
        fitting = [positions - data.max_response_length] if positions is not None else []
        fitting += [64 * math.ceil(needed / 64)] if needed is not None else []
        data.max_prompt_length = max(1, min(fitting))
        why = "the data cannot be read" if needed is None else f"longest of the data: {needed}"
        chosen.append(f"data.max_prompt_length = {data.max_prompt_length} ({why})")
    settings.follow_lengths(config)
    known = "unknown" if positions is None else f"{positions:,}"
    yield Check("lengths", "ok", f"{', '.join(chosen)}; positions of the model: {known}")


def derive_sizes(config: DictConfig, shape: Any | None) -> Iterator[Check]:
    """Fill in the other null values in place and report each choice, after `derive_lengths`. shape: as there."""
    with open_dict(config):
        model = None if shape is None else memory.ModelSizes.of(shape)
        if config.trainer.device == "cpu":
            yield from _on_the_cpu(config, model)
        yield from _bucket(config, model)


def _on_the_cpu(config: DictConfig, model: memory.ModelSizes | None) -> Iterator[Check]:
    """Choose the logical devices, the KV cache and the tokens computed at once, which depend on one another."""
    actor, trainer = config.actor_rollout_ref.actor, config.trainer
    tokens_open, devices_open = actor.ppo_max_token_len_per_gpu is None, trainer.n_gpus_per_node is None
    least = -(-_longest(config) // parallel(config).sequence)
    if tokens_open:
        actor.ppo_max_token_len_per_gpu = least if model else max(least, MOST_TOKENS)
    if devices_open:
        tensor_parallel = config.actor_rollout_ref.rollout.tensor_model_parallel_size
        fitting = [n for n in DEVICES if n % (parallel(config).rank * tensor_parallel) == 0] or [DEVICES[0]]
        for number in fitting:
            trainer.n_gpus_per_node = number
            if model is None or _peak(config, model) <= _room(config, model):
                break
        settings.count_devices(config)
        yield Check("devices", "ok", f"trainer.n_gpus_per_node = {trainer.n_gpus_per_node} of at most {fitting[0]}")
    if model is None:
        return
    yield from _cache(config, model)
    if tokens_open and actor.use_dynamic_bsz:
        yield _tokens(config, model, least)


def _cache(config: DictConfig, model: memory.ModelSizes) -> Iterator[Check]:
    variables = config.ray_kwargs.ray_init.runtime_env.env_vars
    if variables.get(CACHE) is not None:
        return
    needed = _estimate(config, model).kv_bytes_per_token * _longest(config) / memory.GIB
    variables[CACHE] = str(max(1, math.ceil(needed)))
    if needed > 1:
        yield Check("KV cache", "ok", f"{CACHE} = {variables[CACHE]} GiB, for one longest sequence")


def _tokens(config: DictConfig, model: memory.ModelSizes, least: int) -> Check:
    """Choose the largest token budget that fits, by bisection: the peak grows with the budget."""
    actor, data, n = config.actor_rollout_ref.actor, config.data, config.actor_rollout_ref.rollout.n
    room = _room(config, model)
    mini_batch = actor.ppo_mini_batch_size * (data.max_prompt_length + n * data.max_response_length)
    low, high = least, max(least, min(MOST_TOKENS, mini_batch))
    while low < high:
        actor.ppo_max_token_len_per_gpu = middle = (low + high + 1) // 2
        low, high = (middle, high) if _peak(config, model) <= room else (low, middle - 1)
    actor.ppo_max_token_len_per_gpu = low
    peak = _peak(config, model)
    detail = (
        f"{BUDGET} = {low:,} (one longest sequence: {least:,}) needs {peak:.1f} GiB; vLLM and other processes leave "
        f"{room:.1f} GiB on each device"
    )
    if peak <= room:
        return Check("tokens at once", "ok", detail)
    fixes = ", or ".join(advice.training_fixes(config, _estimate(config, model), room))
    return Check(
        "tokens at once", "warn", f"{detail}. Fix: shorter prompts or responses, or actor_rollout_ref: {fixes}"
    )


def _bucket(config: DictConfig, model: memory.ModelSizes | None) -> Iterator[Check]:
    """Choose the size of the buffer that transfers weights from the trainer to vLLM.

    verl sends a larger tensor by a handle to GPU memory. On CPUs, where the buffer is in shared memory, it cannot send
    one.
    """
    engine, on_cpu = config.actor_rollout_ref.rollout.checkpoint_engine, config.trainer.device == "cpu"
    key = "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes"
    setting, usual = engine.update_weights_bucket_megabytes, BUCKET["cpu" if on_cpu else "cuda"]
    if model is None:
        if setting is None:
            engine.update_weights_bucket_megabytes = BUCKET["cuda"]
            detail = f"{key} = {BUCKET['cuda']}: the model's largest tensor is unknown before the start"
            yield Check("weight transfer", "warn", detail)
        return
    needed = memory.largest_tensor_mib(config, model)
    if setting is None:
        engine.update_weights_bucket_megabytes = max(usual, needed)
    size = engine.update_weights_bucket_megabytes
    detail = f"buckets of {size} MB; the largest tensor takes {needed}"
    if size < needed and on_cpu:
        yield Check(
            "weight transfer", "FAIL", f"{key} = {size}: the largest tensor takes {needed} MB. Fix: {key}={needed}"
        )
    elif size < needed:
        yield Check("weight transfer", "ok", f"{detail} and is sent separately, by a handle to GPU memory")
    elif on_cpu and (free := shutil.disk_usage("/dev/shm").free >> 20) < size * n_gpus(config):
        fix = "docker run --shm-size, or --ipc=host; Kubernetes: an emptyDir of medium Memory"
        at_once = f"{n_gpus(config)} devices need {size * n_gpus(config)} MB of /dev/shm, which has {free} free"
        yield Check("weight transfer", "FAIL", f"{detail}; {at_once}. Fix: {fix}")
    else:
        yield Check("weight transfer", "ok", detail)


def _longest(config: DictConfig) -> int:
    return int(config.data.max_prompt_length + config.data.max_response_length)


def _estimate(config: DictConfig, model: memory.ModelSizes) -> memory.Sizes:
    return memory.estimate(config, model, memory.device_gib(config, 0), n_gpus(config))


def _peak(config: DictConfig, model: memory.ModelSizes) -> float:
    sizes = _estimate(config, model)
    return max(sizes.update_peak, sizes.log_prob_peak)


def _room(config: DictConfig, model: memory.ModelSizes) -> float:
    """GiB of a logical device that are left for a rank's weights, optimizer and activations."""
    sizes, devices = _estimate(config, model), config.trainer.n_gpus_per_node
    others = sizes.rollout_weights + sizes.kv_cache + PROCESSES_PER_DEVICE_GIB + PROCESSES_GIB / devices
    return memory.device_gib(config, 0) - others
