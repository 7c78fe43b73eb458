"""Benchmark the driver's part of a step and what TransferQueue stores, relative to verl.

Both are measured for several prompt lengths and numbers of rollouts.

    python scripts/bench/driver.py --output outputs/bench_driver.json

Rows of some prompts with n rollouts each are put into a real TransferQueue, field by field, as verl's agent loops do.

- Storage: MiB that the storage units hold, and seconds that one process needs to fetch all rows whole, as a rank of
  the trainer does. verl stores each row with its prompt; ours stores a prompt once (trainer/prompt_store.py).
- The driver, with verl's own trainer methods: it fetches the log-probs and entropies that workers have written
  (`_compute_old_log_prob`) and computes metrics (`_compute_metrics`). With verl, workers write values of prompts and
  responses, and the metrics fetch all prompts; with ours, workers write values of responses
  (engine/response_logits.py), and the metrics take lengths from tags. Fake workers are used, and their time is not
  counted. Also reported: the driver's peak memory.

Times are medians over rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import ray
import torch
import transfer_queue as tq
import typer
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl_longrl.patching import patched_attribute
from verl_longrl.trainer.transfer_queue_rows import metric_data

from recipe.longrl import settings

VARIANTS = ("upstream", "ours")


def put_rows(variant: str, prompts: int, rollouts: int, prompt: int, response: int) -> Any:
    """Put rows into TransferQueue as agent loops do. Returns the batch's metadata."""
    return asyncio.run(_put_rows(variant, prompts, rollouts, prompt, response))


async def _put_rows(variant: str, prompts: int, rollouts: int, prompt: int, response: int) -> Any:
    keys, tags, store = [], [], tq.get_client().storage_manager
    for number in range(prompts):
        uid, ids = f"{variant}{number}", torch.randint(1000, (prompt,))
        text = [{"role": "user", "content": "abcd" * prompt}]
        with store.group(uid) if variant == "ours" else nullcontext():
            for rollout in range(rollouts):
                answer = torch.randint(1000, (response,))
                row = (
                    {"prompts": ids.clone(), "responses": answer, "input_ids": torch.cat([ids, answer])}
                    | {"position_ids": torch.arange(prompt + response), "response_mask": torch.ones(response)}
                    | {"loss_mask": torch.ones(response), "rollout_log_probs": torch.zeros(response)}
                    | {"rm_scores": torch.zeros(response), "num_turns": 2, "uid": uid, "raw_prompt": text}
                    | {"advantages": torch.zeros(response), "returns": torch.zeros(response)}
                )
                keys.append(f"{uid}_{rollout}_0")
                tags.append(
                    {"prompt_len": prompt, "response_len": response, "seq_len": prompt + response}
                    | {"min_global_steps": 0, "max_global_steps": 0}
                )
                fields = list_of_dict_to_tensordict([row])
                await tq.async_kv_batch_put(keys[-1:], "train", fields=fields, tags=tags[-1:])
    return tq.KVBatchMeta(keys=keys, tags=tags, partition_id="train")


class FakeWorkers:
    """Writes log-probs and entropies of rows of these lengths, as the trainer's ranks do."""

    def __init__(self, lengths: list[int]):
        self.lengths, self.seconds = lengths, 0.0

    def compute_log_prob(self, batch: Any) -> Any:
        started = time.perf_counter()
        values = torch.nested.as_nested_tensor([torch.zeros(n) for n in self.lengths], layout=torch.jagged)
        fields = TensorDict({"log_probs": values, "entropy": values.clone()}, batch_size=len(batch))
        batch = tq.kv_batch_put(keys=batch.keys, partition_id="train", fields=fields, tags=batch.tags)
        self.seconds += time.perf_counter() - started
        return batch


def run_driver_step(variant: str, config: DictConfig, batch: Any) -> float:
    """Seconds that the driver needs, without those of the workers."""
    lengths = [tag["seq_len"] if variant == "upstream" else tag["response_len"] + 1 for tag in batch.tags]
    workers, tags = FakeWorkers(lengths), batch.tags
    driver = SimpleNamespace(
        config=config,
        actor_rollout_wg=workers,
        use_critic=False,
        _rollout_moe_lb_metrics_accumulator=None,
        _get_n_gpus_for_throughput=lambda: 1,
    )
    query = trainer_base.get_metric_data_with_optional_routed_experts if variant == "upstream" else metric_data(batch)
    started = time.perf_counter()
    batch = PPOTrainerSync._compute_old_log_prob(driver, batch, {})
    batch.tags = tags
    with patched_attribute(trainer_base, "get_metric_data_with_optional_routed_experts", query):
        PPOTrainerSync._compute_metrics(driver, batch, {}, {"step": 1.0}, 1, 0)
    return time.perf_counter() - started - workers.seconds


def resident_mib(field: str) -> float:
    """Resident memory of this process. field: VmRSS (current) or VmHWM (peak)."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1024


def stored_mib() -> float:
    """The size of the storage units' contents when they are saved."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(tq.get_client().storage_manager.save_checkpoint(folder))
        return sum(file.stat().st_size for file in Path(folder).rglob("*.pkl")) / 2**20


def measure_storage(prompts: int, rollouts: int, prompt: int, response: int, rounds: int) -> list[dict[str, Any]]:
    """MiB stored and seconds to fetch all rows, for each variant."""
    results = []
    for variant in VARIANTS:
        batch, times = put_rows(variant, prompts, rollouts, prompt, response), []
        for _ in range(rounds):
            started = time.perf_counter()
            tq.kv_batch_get(keys=batch.keys, partition_id="train")
            times.append(time.perf_counter() - started)
        row = {"rollouts": rollouts, "prompt": prompt, "variant": variant, "stored_mib": stored_mib(), "read_s": times}
        results.append({**row, "median_read_s": statistics.median(times)})
        tq.kv_clear(keys=batch.keys, partition_id="train")
    return results


def measure_driver(
    config: DictConfig, prompts: int, rollouts: int, prompt: int, response: int, rounds: int
) -> list[dict[str, Any]]:
    """Seconds and peak MiB of the driver, for each variant."""
    batches = {variant: put_rows(variant, prompts, rollouts, prompt, response) for variant in VARIANTS}
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    peaks = dict.fromkeys(VARIANTS, 0.0)
    for _ in range(rounds):
        for variant in VARIANTS:
            # Resets VmHWM.
            Path("/proc/self/clear_refs").write_text("5")
            before = resident_mib("VmRSS")
            times[variant].append(run_driver_step(variant, config, batches[variant]))
            peaks[variant] = max(peaks[variant], resident_mib("VmHWM") - before)
    for batch in batches.values():
        tq.kv_clear(keys=batch.keys, partition_id="train")
    return [
        {
            "rollouts": rollouts,
            "prompt": prompt,
            "variant": variant,
            "seconds": times[variant],
            "median_s": statistics.median(times[variant]),
            "peak_mib": peaks[variant],
        }
        for variant in VARIANTS
    ]


def main(
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("outputs/bench_driver.json"),
    prompts: Annotated[int, typer.Option(help="Prompts per batch.")] = 8,
    response: Annotated[int, typer.Option(help="Response tokens.")] = 256,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 5,
) -> None:
    """Run the benchmark, print tables and write the JSON."""
    required = ["data.train_files=[x]", "data.val_files=[x]", "actor_rollout_ref.model.path=x", "hardware=cpu"]
    config = settings.compose(required)
    ray.init(
        address="local", num_cpus=8, include_dashboard=False, logging_level="ERROR", object_store_memory=500_000_000
    )
    tq.init(config.transfer_queue)
    stored, steps = [], []
    print("| n | prompt | variant | stored, MiB | fetched, s |\n|---|---|---|---|---|", flush=True)
    for rollouts in (1, 2, 4, 8, 16):
        for row in measure_storage(prompts, rollouts, 16384, response, rounds):
            stored.append(row)
            print(f"| {rollouts} | 16384 | {row['variant']} | {row['stored_mib']:.1f} | {row['median_read_s']:.3f} |")
    print("\n| n | prompt | variant | driver, s | peak, MiB |\n|---|---|---|---|---|", flush=True)
    for rollouts in (2, 8):
        for prompt in (1024, 16384):
            for row in measure_driver(config, prompts, rollouts, prompt, response, rounds):
                steps.append(row)
                print(f"| {rollouts} | {prompt} | {row['variant']} | {row['median_s']:.3f} | {row['peak_mib']:.0f} |")
    output.parent.mkdir(parents=True, exist_ok=True)
    result = {"cpus": os.cpu_count(), "prompts": prompts, "response": response, "storage": stored, "driver": steps}
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(output)
    tq.close()
    ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
