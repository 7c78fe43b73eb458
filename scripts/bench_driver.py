"""What a step costs the driver, by the length of its prompts: real TransferQueue, upstream's own trainer methods.

    python scripts/bench_driver.py --output outputs/bench_driver.json

Rows of some prompts with n rollouts each are put into TransferQueue as upstream's agent loops put them. Then the driver
does what a step has it do with them: take the log-probs and entropies that workers have written
(`_compute_old_log_prob`), and compute metrics (`_compute_metrics`). upstream: workers write values of prompts
and responses, the metrics fetch all prompts; ours: workers write values of responses (engine/responses.py), the metrics
take lengths from tags. Times are medians over rounds; the stand-in for the workers is not timed. Also: the driver's
peak memory, and what the storage of TransferQueue holds, which is upstream's: n copies of a prompt on either side.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import psutil
import ray
import torch
import transfer_queue as tq
import typer
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl_longrl.replaced import replaced
from verl_longrl.trainer.trainer import _metric_data

from recipe.longrl import settings

SIDES = ("upstream", "ours")


def put_rows(prompts: int, rollouts: int, prompt: int, response: int) -> Any:
    """As an agent loop puts them; gives the batch's metadata."""
    keys, rows, tags = [], [], []
    for number in range(prompts):
        ids = torch.randint(1000, (prompt,))
        for rollout in range(rollouts):
            own = torch.randint(1000, (response,))
            rows.append(
                {"prompts": ids.clone(), "responses": own, "input_ids": torch.cat([ids, own])}
                | {"position_ids": torch.arange(prompt + response), "response_mask": torch.ones(response)}
                | {"loss_mask": torch.ones(response), "rollout_log_probs": torch.zeros(response)}
                | {"rm_scores": torch.zeros(response), "num_turns": 2}
                | {"advantages": torch.zeros(response), "returns": torch.zeros(response)}
            )
            keys.append(f"u{number}_{rollout}_0")
            tags.append(
                {"prompt_len": prompt, "response_len": response, "seq_len": prompt + response}
                | {"min_global_steps": 0, "max_global_steps": 0}
            )
    return tq.kv_batch_put(keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(rows), tags=tags)


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
    query = trainer_base.get_metric_data_with_optional_routed_experts if side == "upstream" else _metric_data(batch)
    started = time.perf_counter()
    batch = PPOTrainerSync._compute_old_log_prob(driver, batch, {})
    batch.tags = tags
    with replaced(trainer_base, "get_metric_data_with_optional_routed_experts", query):
        PPOTrainerSync._compute_metrics(driver, batch, {}, {"step": 1.0}, 1, 0)
    return time.perf_counter() - started - workers.seconds


def resident_mib(what: str, pid: int | str = "self") -> float:
    """VmRSS or VmHWM of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


def storage_mib() -> float:
    """Resident memory of TransferQueue's storage units."""
    units = [
        p.pid for p in psutil.process_iter(["cmdline"]) if "SimpleStorageUnit" in " ".join(p.info["cmdline"] or [])
    ]
    return sum(resident_mib("VmRSS", pid) for pid in units)


def main(
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("outputs/bench_driver.json"),
    prompts: Annotated[int, typer.Option(help="Prompts of a batch.")] = 8,
    response: Annotated[int, typer.Option(help="Response tokens.")] = 256,
    rounds: Annotated[int, typer.Option(help="Alternating rounds.")] = 5,
) -> None:
    """Measure, print and write."""
    needed = ["data.train_files=[x]", "data.val_files=[x]", "actor_rollout_ref.model.path=x", "hardware=cpu"]
    config = settings.compose(needed)
    ray.init(num_cpus=8, include_dashboard=False, logging_level="ERROR", object_store_memory=500_000_000)
    tq.init(config.transfer_queue)
    found = []
    print("| n | prompt | side | driver, s | its peak, MiB | storage, MiB |\n|---|---|---|---|---|---|", flush=True)
    for rollouts in (2, 8):
        for prompt in (1024, 16384):
            before = storage_mib()
            batch = put_rows(prompts, rollouts, prompt, response)
            stored = storage_mib() - before
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            peaks = dict.fromkeys(SIDES, 0.0)
            for _ in range(rounds):
                for side in SIDES:
                    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
                    now = resident_mib("VmRSS")
                    times[side].append(step(side, config, batch))
                    peaks[side] = max(peaks[side], resident_mib("VmHWM") - now)
            tq.kv_clear(keys=batch.keys, partition_id="train")
            for side in SIDES:
                row = {"rollouts": rollouts, "prompt": prompt, "side": side, "seconds": times[side]}
                row |= {"median_s": statistics.median(times[side]), "peak_mib": peaks[side], "storage_mib": stored}
                found.append(row)
                shown = f"{row['median_s']:.3f} | {row['peak_mib']:.0f} | {row['storage_mib']:.0f}"
                print(f"| {rollouts} | {prompt} | {side} | {shown} |", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    about = {"cpus": os.cpu_count(), "prompts": prompts, "response": response}
    output.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n")
    print(output)
    ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
