"""Check that the run fits into memory: GPUs in training and generation, the KV cache, the nodes, and the disk."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl import memory
from recipe.longrl.memory import advice
from recipe.longrl.parallelism import n_gpus, uses_megatron
from recipe.longrl.preflight import cluster, disk
from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.plan import TrainingPlan


def check_memory(
    config: DictConfig, longrl: LongRLConfig, shape: Any, dry_run: bool, plan: TrainingPlan | None = None
) -> Iterator[Check]:
    """One line per kind of memory, disk last. shape: the model's Hugging Face config. plan: None where the rows are
    unknown."""
    if uses_megatron(config):
        yield Check("memory", "warn", "not estimated: the estimate does not know Megatron's sizes")
        return
    gpu_gib = memory.device_gib(config, longrl.gpu_memory_gib)
    sizes = memory.estimate(config, memory.ModelSizes.of(shape), gpu_gib, n_gpus(config))
    yield check_training(config, sizes, gpu_gib)
    if config.trainer.device != "cpu":
        yield _check_generation(config, sizes, gpu_gib)
    yield _check_kv_cache(config, sizes)
    if config.trainer.device != "cpu":
        yield _check_host_memory(config, sizes, dry_run)
    yield from disk.check_disk(config, longrl, sizes, dry_run, plan)


def check_training(config: DictConfig, sizes: memory.Sizes, gpu_gib: float) -> Check:
    """The line for the memory of a device in the trainer's passes."""
    peak = max(sizes.update_peak, sizes.log_prob_peak)
    holes = f", holes in the heap {sizes.holes:.2f}" if sizes.holes else ""
    detail = (
        f"{memory.format_count(sizes.parameters)} parameters; per device: update {sizes.update_peak:.2f} GiB (state "
        f"{sizes.train_state:.2f}, gathered {sizes.gathered:.2f}, activations {sizes.kept:.2f}{holes}, plus a layer's "
        f"backward {sizes.working:.2f} or logits {sizes.logits:.2f}), log-probabilities {sizes.log_prob_peak:.2f}, of "
        f"{gpu_gib:.0f}{_list_memory_of_both_passes(sizes)}"
    )
    return _compare_with_gpu("memory", config, peak, gpu_gib, detail, advice.training_fixes(config, sizes, gpu_gib))


def _list_memory_of_both_passes(sizes: memory.Sizes) -> str:
    """Memory that is in use in both passes besides the trainer's tensors."""
    others = {"vLLM": sizes.sleeping, "attention mask": sizes.mask, "the process": sizes.process}
    named = ", ".join(f"{what} {gib:.2f}" for what, gib in others.items() if gib)
    return f"; in both: {named}" if named else ""


def _check_generation(config: DictConfig, sizes: memory.Sizes, gpu_gib: float) -> Check:
    total, share = sizes.vllm + sizes.resident, config.actor_rollout_ref.rollout.gpu_memory_utilization
    detail = (
        f"{total:.2f} of {gpu_gib:.0f} GiB per GPU: vLLM {sizes.vllm:.2f} (gpu_memory_utilization {share:g}), trainer "
        f"state {sizes.resident:.2f}"
    )
    return _compare_with_gpu(
        "generation", config, total, gpu_gib, detail, advice.generation_fixes(config, sizes, gpu_gib)
    )


def _compare_with_gpu(
    name: str, config: DictConfig, needed: float, gpu_gib: float, detail: str, fixes: list[str]
) -> Check:
    """The line for `needed` of a device's `gpu_gib`. fixes: settings under actor_rollout_ref."""
    if needed <= gpu_gib - memory.margin_gib(config):
        return Check(name, "ok", detail)
    fix = f"Fix, under actor_rollout_ref: {', or '.join(fixes)}"
    if needed > gpu_gib:
        return Check(name, "FAIL", f"{detail}. {fix}")
    return Check(name, "warn", f"{detail}; less than {memory.MARGIN_GIB:g} GiB left for what is not counted. {fix}")


def _check_kv_cache(config: DictConfig, sizes: memory.Sizes) -> Check:
    longest = config.data.max_prompt_length + config.data.max_response_length
    detail = (
        f"weights {sizes.rollout_weights:.2f} GiB, profile run {sizes.profile:.2f}, KV cache {sizes.kv_cache:.2f} = "
        f"{sizes.kv_tokens:,} tokens, {sizes.kv_tokens / longest:.1f} sequences of the longest length at once"
    )
    if sizes.kv_tokens >= longest:
        return Check("vLLM replica", "ok", detail)
    return Check("vLLM replica", "FAIL", f"{detail}, {longest:,} tokens are needed. Fix: {advice.cache_fix(config)}")


def _check_host_memory(config: DictConfig, sizes: memory.Sizes, dry_run: bool) -> Check:
    """Memory of a node, compared with this machine's if it is the only node of the run."""
    detail = f"needs {sizes.host:.0f} GiB of each node's memory, to read the weights and for what is offloaded"
    if dry_run or not cluster.starts_own_ray(config):
        return Check("host memory", "ok", detail)
    import psutil

    total = psutil.virtual_memory().total / memory.GIB
    detail = f"{detail}; this one has {total:.0f} GiB"
    if sizes.host > 0.8 * total:
        fix = "offload less (actor_rollout_ref.actor.fsdp_config), use more nodes or a smaller model"
        return Check("host memory", "FAIL" if sizes.host > total else "warn", f"{detail}. Fix: {fix}")
    return Check("host memory", "ok", detail)
