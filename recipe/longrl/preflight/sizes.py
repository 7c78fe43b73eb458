"""Memory: of a GPU in the update, in the log-probability pass and while vLLM generates; of the KV cache; of a node."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl import memory
from recipe.longrl.parallel import n_gpus, parallel, uses_megatron
from recipe.longrl.preflight import cluster, folder
from recipe.longrl.preflight.check import Check


def checks(config: DictConfig, longrl: LongRLConfig, shape: Any, dry_run: bool) -> Iterator[Check]:
    """One line per kind of memory, disk last. shape: the model's Hugging Face config."""
    if uses_megatron(config):
        yield Check("memory", "warn", "not estimated with Megatron, whose sizes the estimate does not know")
        return
    gpu_gib = _device_gib(config, longrl)
    sizes = memory.estimate(config, shape, gpu_gib, n_gpus(config))
    yield _training(config, sizes, gpu_gib)
    if config.trainer.device != "cpu":
        yield _generating(config, sizes, gpu_gib)
    yield _replica(config, sizes)
    if config.trainer.device != "cpu":
        yield _host(config, sizes, dry_run)
    yield folder.disk(config, longrl, sizes.checkpoint, dry_run)


def _training(config: DictConfig, sizes: memory.Sizes, gpu_gib: float) -> Check:
    peak = max(sizes.update_peak, sizes.log_prob_peak)
    detail = (
        f"{memory.count(sizes.parameters)} parameters; per device: update {sizes.update_peak:.2f} GiB (state "
        f"{sizes.train_state:.2f}, activations {sizes.activations:.2f}, logits {sizes.logits:.2f}), log-probabilities "
        f"{sizes.log_prob_peak:.2f}, of {gpu_gib:.0f}"
    )
    fixes = ["raise actor.ulysses_sequence_parallel_size (and lower the tokens per GPU with it)"]
    if parallel(config).sequence == n_gpus(config):
        fixes = []
    if sizes.log_prob_peak > gpu_gib - _margin(config):
        fixes = [
            "lower rollout.log_prob_max_token_len_per_gpu",
            "set actor.entropy_from_logits_with_chunking=true",
            *fixes,
        ]
    if sizes.update_peak > gpu_gib - _margin(config):
        fixes = ["lower actor.ppo_max_token_len_per_gpu", *fixes]
    if sizes.train_state > gpu_gib / 2:
        fixes.append("keep the state in host memory with actor.fsdp_config.offload_policy=true")
    fixes.append("take more GPUs (hardware=...)")
    return _against("memory", config, peak, gpu_gib, detail, fixes)


def _generating(config: DictConfig, sizes: memory.Sizes, gpu_gib: float) -> Check:
    total, share = sizes.vllm + sizes.resident, config.actor_rollout_ref.rollout.gpu_memory_utilization
    detail = (
        f"{total:.2f} of {gpu_gib:.0f} GiB per GPU: vLLM {sizes.vllm:.2f} (gpu_memory_utilization {share:g}), trainer "
        f"state beside it {sizes.resident:.2f}"
    )
    fits = (gpu_gib - memory.MARGIN_GIB - sizes.resident) / gpu_gib
    fixes = [f"rollout.gpu_memory_utilization={int(fits * 100) / 100:g}"] if fits > 0.1 else []
    fixes += ["actor.fsdp_config.optimizer_offload=true", "actor.fsdp_config.param_offload=true"]
    return _against("generation", config, total, gpu_gib, detail, fixes)


def _against(name: str, config: DictConfig, needed: float, gpu_gib: float, detail: str, fixes: list[str]) -> Check:
    """The line for `needed` of a device's `gpu_gib`. fixes: keys under actor_rollout_ref."""
    if needed <= gpu_gib - _margin(config):
        return Check(name, "ok", detail)
    fix = f"fix, under actor_rollout_ref: {', or '.join(fixes)}"
    if needed > gpu_gib:
        return Check(name, "FAIL", f"{detail}; {fix}")
    return Check(name, "warn", f"{detail}; less than {memory.MARGIN_GIB:g} GiB left for what is not counted; {fix}")


def _replica(config: DictConfig, sizes: memory.Sizes) -> Check:
    longest = config.data.max_prompt_length + config.data.max_response_length
    detail = (
        f"weights {sizes.rollout_weights:.2f} GiB, KV cache {sizes.kv_cache:.2f} GiB = {sizes.kv_tokens:,} tokens, "
        f"{sizes.kv_tokens / longest:.1f} of the longest sequences at once"
    )
    if sizes.kv_tokens >= longest:
        return Check("vLLM replica", "ok", detail)
    if config.trainer.device == "cpu":
        fix = "raise ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE (GiB)"
    else:
        fix = "raise actor_rollout_ref.rollout.gpu_memory_utilization or tensor_model_parallel_size"
    return Check("vLLM replica", "FAIL", f"{detail}, {longest:,} tokens are needed; {fix}")


def _host(config: DictConfig, sizes: memory.Sizes, dry_run: bool) -> Check:
    """Against this machine's memory where the run's only node is this machine."""
    detail = f"{sizes.host:.0f} GiB of each node's memory for reading the weights and for what is offloaded"
    if dry_run or not cluster.starts_here(config):
        return Check("host memory", "ok", f"takes {detail}")
    import psutil

    have = psutil.virtual_memory().total / memory.GIB
    detail = f"takes {detail}; this one has {have:.0f} GiB"
    if sizes.host > 0.8 * have:
        fix = "offload less (actor_rollout_ref.actor.fsdp_config), use more nodes or a smaller model"
        return Check("host memory", "FAIL" if sizes.host > have else "warn", f"{detail}; {fix}")
    return Check("host memory", "ok", detail)


def _margin(config: DictConfig) -> float:
    return 0.0 if config.trainer.device == "cpu" else memory.MARGIN_GIB


def _device_gib(config: DictConfig, longrl: LongRLConfig) -> float:
    import torch

    if config.trainer.device == "cpu":
        import psutil

        return float(psutil.virtual_memory().total / memory.GIB / config.trainer.n_gpus_per_node)
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory / memory.GIB)
    return longrl.gpu_memory_gib
