"""What a step costs the driver, and what TransferQueue stores of it, by the length of prompts and their rollouts.

    python scripts/bench/driver.py --output outputs/bench_driver.json

Rows of some prompts with n rollouts each are put into real TransferQueue, field by field as verl's agent loops do.

- Storage: bytes that the storage units hold, and how long one process takes to fetch all rows whole, as a trainer's
  rank does. verl: each row with its prompt; ours: a prompt once (trainer/prompt_store.py).
- The driver, with verl's own trainer methods: it takes the log-probs and entropies that workers have written
  (`_compute_old_log_prob`), and computes metrics (`_compute_metrics`). verl: workers write values of prompts and
  responses, the metrics fetch all prompts; ours: workers write values of responses (engine/response_logits.py), the
  metrics take lengths from tags. The stand-in for the workers is not timed. Also: the driver's peak memory.

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

SIDES = ("upstream", "ours")


def put_rows(side: str, prompts: int, rollouts: int, prompt: int, response: int) -> Any:
    """As agent loops put them; gives the batch's metadata."""
    return asyncio.run(_put_rows(side, prompts, rollouts, prompt, response))


async def _put_rows(side: str, prompts: int, rollouts: int, prompt: int, response: int) -> Any:
    keys, tags, store = [], [], tq.get_client().storage_manager
    for number in range(prompts):
        uid, ids = f"{side}{number}", torch.randint(1000, (prompt,))
        text = [{"role": "user", "content": "abcd" * prompt}]
        with store.group(uid) if side == "ours" else nullcontext():
            for rollout in range(rollouts):
                own = torch.randint(1000, (response,))
                row = (
                    {"prompts": ids.clone(), "responses": own, "input_ids": torch.cat([ids, own])}
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


class Workers:
    """Stands for the trainer's ranks: writes log-probs and entropies of rows of these lengths."""

    def __init__(self, lengths: list[int]):
        self.lengths, self.seconds = lengths, 0.0

    def compute_log_prob(self, batch: Any) -> Any:
        started = time.perf_counter()
        values = torch.nested.as_nested_tensor([torch.zeros(n) for n in self.lengths], layout=torch.jagged)
        fields = TensorDict({"log_probs": values, "entropy": values.clone()}, batch_size=len(batch))
        batch = tq.kv_batch_put(keys=batch.keys, partition_id="train", fields=fields, tags=batch.tags)
        self.seconds += time.perf_counter() - started
        return batch


def step(side: str, config: DictConfig, batch: Any) -> float:
    """Seconds of the driver."""
    lengths = [tag["seq_len"] if side == "upstream" else tag["response_len"] + 1 for tag in batch.tags]
    workers, tags = Workers(lengths), batch.tags
    driver = SimpleNamespace(
        config=config,
        actor_rollout_wg=workers,
        use_critic=False,
        _rollout_moe_lb_metrics_accumulator=None,
        _get_n_gpus_for_throughput=lambda: 1,
    )
    query = trainer_base.get_metric_data_with_optional_routed_experts if side == "upstream" else metric_data(batch)
    started = time.perf_counter()
    batch = PPOTrainerSync._compute_old_log_prob(driver, batch, {})
    batch.tags = tags
    with patched_attribute(trainer_base, "get_metric_data_with_optional_routed_experts", query):
        PPOTrainerSync._compute_metrics(driver, batch, {}, {"step": 1.0}, 1, 0)
    return time.perf_counter() - started - workers.seconds


def resident_mib(what: str) -> float:
    """VmRSS or VmHWM of this process."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


def stored_mib() -> float:
    """What the storage units hold, as they would save it."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(tq.get_client().storage_manager.save_checkpoint(folder))
        return sum(file.stat().st_size for file in Path(folder).rglob("*.pkl")) / 2**20


def storage(prompts: int, rollouts: int, prompt: int, response: int, rounds: int) -> list[dict[str, Any]]:
    found = []
    for side in SIDES:
        batch, times = put_rows(side, prompts, rollouts, prompt, response), []
        for _ in range(rounds):
            started = time.perf_counter()
            tq.kv_batch_get(keys=batch.keys, partition_id="train")
            times.append(time.perf_counter() - started)
        row = {"rollouts": rollouts, "prompt": prompt, "side": side, "stored_mib": stored_mib(), "read_s": times}
        found.append({**row, "median_read_s": statistics.median(times)})
        tq.kv_clear(keys=batch.keys, partition_id="train")
    return found


def driver(
    config: DictConfig, prompts: int, rollouts: int, prompt: int, response: int, rounds: int
) -> list[dict[str, Any]]:
    batches = {side: put_rows(side, prompts, rollouts, prompt, response) for side in SIDES}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    peaks = dict.fromkeys(SIDES, 0.0)
    for _ in range(rounds):
        for side in SIDES:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            now = resident_mib("VmRSS")
            times[side].append(step(side, config, batches[side]))
            peaks[side] = max(peaks[side], resident_mib("VmHWM") - now)
    for batch in batches.values():
        tq.kv_clear(keys=batch.keys, partition_id="train")
    about = {"rollouts": rollouts, "prompt": prompt}
    return [
        about
        | {"side": side, "seconds": times[side], "median_s": statistics.median(times[side]), "peak_mib": peaks[side]}
        for side in SIDES
    ]


def main(
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("outputs/bench_driver.json"),
    prompts: Annotated[int, typer.Option(help="Prompts of a batch.")] = 8,
    response: Annotated[int, typer.Option(help="Response tokens.")] = 256,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 5,
) -> None:
    """Measure, print and write."""
    needed = ["data.train_files=[x]", "data.val_files=[x]", "actor_rollout_ref.model.path=x", "hardware=cpu"]
    config = settings.compose(needed)
    ray.init(
        address="local", num_cpus=8, include_dashboard=False, logging_level="ERROR", object_store_memory=500_000_000
    )
    tq.init(config.transfer_queue)
    stored, steps = [], []
    print("| n | prompt | side | stored, MiB | fetched in, s |\n|---|---|---|---|---|", flush=True)
    for rollouts in (1, 2, 4, 8, 16):
        for row in storage(prompts, rollouts, 16384, response, rounds):
            stored.append(row)
            print(f"| {rollouts} | 16384 | {row['side']} | {row['stored_mib']:.1f} | {row['median_read_s']:.3f} |")
    print("\n| n | prompt | side | driver, s | its peak, MiB |\n|---|---|---|---|---|", flush=True)
    for rollouts in (2, 8):
        for prompt in (1024, 16384):
            for row in driver(config, prompts, rollouts, prompt, response, rounds):
                steps.append(row)
                print(f"| {rollouts} | {prompt} | {row['side']} | {row['median_s']:.3f} | {row['peak_mib']:.0f} |")
    output.parent.mkdir(parents=True, exist_ok=True)
    about = {"cpus": os.cpu_count(), "prompts": prompts, "response": response}
    output.write_text(json.dumps({**about, "storage": stored, "driver": steps}, indent=1) + "\n")
    print(output)
    tq.close()
    ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
