"""Benchmark prompt-affinity routing: prompt tokens prefilled relative to unique ones, ours and verl's balancer.

    python scripts/bench/routing.py [--output docs/results/routing.json]

`replicas`: two real vLLM replicas behind verl's balancer actors and clients answer a few prompts, 8 rollouts each, all
requested at once, with a tiny random model. Prefilled tokens are counted by vLLM (vllm:prompt_tokens_by_source,
local_compute). For comparison, one replica answers 8 simultaneous requests for one prompt. Every request but the first
recomputes the prompt's last, incomplete block. Blocks have 32 tokens here (16 on GPUs; the default of 128 on CPUs would
blur the result for prompts as short as these).

`simulation`: a step of 64 replicas with strongly skewed prompts (routing_simulation.py), means over the seeds.
`prefill` and `work` are the load of the busiest replica relative to the mean.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import urllib.request
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import ray
import torch
import typer
from omegaconf import DictConfig, OmegaConf
from routing_simulation import Loads, simulate, skewed_step
from transformers import Qwen3Config, Qwen3ForCausalLM
from verl.workers.rollout.llm_server import LLMServerClient, LLMServerManager
from verl.workers.rollout.router import GlobalRequestLoadBalancer, get_router_handle
from verl_longrl.rollout import ROUTER_CONFIG
from verl_longrl.rollout.affinity import PromptAffinityBalancer
from verl_longrl.rollout.client import PromptAffinityClient

from recipe.longrl import settings, worker_env
from recipe.longrl.demo import tokenizer as demo_tokenizer

ROLLOUTS, RESPONSE, BLOCK = 8, 16, 32
LENGTHS = (2700, 3300, 4100, 2900, 3700, 3100)
"""Tokens of the prompts that real replicas answer."""
SAMPLING = {"temperature": 1.0, "max_tokens": RESPONSE, "ignore_eos": True}
REPLICAS = 64
COUNTER = "vllm:prompt_tokens_by_source_total"


def build_model(folder: Path) -> int:
    """Save a random one-layer Qwen3 for 8K tokens with the demo's tokenizer. Returns the size of the vocabulary."""
    tokenizer = demo_tokenizer.build_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def compose_config(model: Path) -> DictConfig:
    """The configuration of a run with two replicas, each on its own logical device."""
    rollout = "actor_rollout_ref.rollout"
    config = settings.compose(
        [
            *("hardware=cpu", "trainer.n_gpus_per_node=2"),
            f"actor_rollout_ref.model.path={model}",
            "data.train_files=[none]",
            "data.val_files=[none]",
            f"data.max_prompt_length={max(LENGTHS)}",
            f"data.max_response_length={RESPONSE}",
            f"{rollout}.max_model_len={max(LENGTHS) + RESPONSE}",
            f"{rollout}.disable_log_stats=false",
            f"+{rollout}.engine_kwargs.vllm.block_size={BLOCK}",
            f"{rollout}.nnodes=1",
            f"{rollout}.n_gpus_per_node=2",
            f"{rollout}.router_config_path={ROUTER_CONFIG}",
            f"{rollout}.checkpoint_engine.update_weights_bucket_megabytes=16",
            "ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE='1'",
        ]
    )
    OmegaConf.resolve(config)
    return config


async def count_prefilled(addresses: list[str]) -> list[int]:
    """Prompt tokens that each replica has prefilled so far."""

    def read_counter(address: str) -> int:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        return sum(
            round(float(line.rsplit(" ", 1)[1]))
            for line in lines
            if line.startswith(COUNTER) and 'source="local_compute"' in line
        )

    return await asyncio.gather(*(asyncio.to_thread(read_counter, address) for address in addresses))


async def send_all(client: LLMServerClient, prompts: list[list[int]]) -> None:
    """Request all rollouts of all prompts at once."""
    requests = [prompt for prompt in prompts for _ in range(ROLLOUTS)]
    await asyncio.gather(
        *(client.generate(uuid4().hex, prompt_ids=prompt, sampling_params=dict(SAMPLING)) for prompt in requests)
    )


async def send_all_to(server: Any, prompt: list[int]) -> None:
    """Request all rollouts of a prompt at once from one replica."""
    await asyncio.gather(
        *(
            server.generate.remote(prompt_ids=prompt, sampling_params=dict(SAMPLING), request_id=uuid4().hex)
            for _ in range(ROLLOUTS)
        )
    )


async def measure_replicas(config: DictConfig, vocabulary: int) -> dict[str, Any]:
    """Prompt tokens that the replicas prefilled, by balancer. Caches are emptied in between, as between steps."""
    manager = await LLMServerManager.create(config=config)
    addresses, handles, draw = manager.get_addresses(), manager.server_handles, random.Random(0)
    prompts = [[draw.randrange(20, vocabulary) for _ in range(length)] for length in LENGTHS]
    verl_client = LLMServerClient(config, get_router_handle(dict(zip(addresses, handles, strict=True))))
    our_client = manager.get_client(client_cls=PromptAffinityClient)
    results: dict[str, Any] = {}
    for name, sent_prompts, requests in (
        ("one_replica", prompts[:1], send_all_to(handles[0], prompts[0])),
        ("upstream", prompts, send_all(verl_client, prompts)),
        ("prompt_affinity", prompts, send_all(our_client, prompts)),
    ):
        await asyncio.gather(*(replica.clear_kv_cache() for replica in manager.get_replicas()))
        before = await count_prefilled(addresses)
        await requests
        by_replica = [after - earlier for after, earlier in zip(await count_prefilled(addresses), before, strict=True)]
        unique = sum(map(len, sent_prompts))
        results[name] = {"unique": unique, "prefilled": by_replica, "times_unique": round(sum(by_replica) / unique, 3)}
    status = await manager.global_load_balancer.get_status.remote()
    results["prompt_affinity"]["balancer"] = {key: status[key] for key in ("requests", "prefill_tokens", "spilled")}
    return results


def run_replicas() -> dict[str, Any]:
    """Run measure_replicas in its own Ray cluster."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = build_model(Path(folder))
        config = compose_config(Path(folder))
        ray_settings = settings.plain(config.ray_kwargs.ray_init)
        del ray_settings["runtime_env"]
        ray.init(address="local", **ray_settings, runtime_env=worker_env.runtime_env(config))
        try:
            return asyncio.run(measure_replicas(config, vocabulary))
        finally:
            ray.shutdown()


def run_simulation(per_replica: int, rollouts: int, seeds: int, over_s: float) -> dict[str, Any]:
    """Simulate both balancers on the same steps, with `per_replica` prompts for each replica."""
    results: dict[str, list[dict[str, float]]] = {"upstream": [], "prompt_affinity": []}
    replicas = [f"replica-{number}" for number in range(REPLICAS)]
    for seed in range(seeds):
        requests = skewed_step(per_replica * REPLICAS, rollouts, seed, over_s)
        unique = sum({request.prompt: request.prompt_tokens for request in requests}.values())
        # verl's balancer chooses randomly among equal replicas.
        random.seed(seed)
        balancers = {"upstream": GlobalRequestLoadBalancer, "prompt_affinity": PromptAffinityBalancer}
        for name, balancer in balancers.items():
            loads = simulate(balancer(dict.fromkeys(replicas)), requests)
            results[name].append(
                {
                    "prefilled_times_unique": sum(loads.prefill) / unique,
                    "prefill": Loads.unevenness(loads.prefill),
                    "work": Loads.unevenness(loads.work),
                    "busiest_tokens": max(loads.work),
                    "seconds": loads.seconds,
                }
            )
    means = {
        name: {key: float(f"{sum(run[key] for run in runs) / seeds:.3g}") for key in runs[0]}
        for name, runs in results.items()
    }
    return {"prompts_per_replica": per_replica, "rollouts": rollouts, "over_s": over_s, "seeds": seeds, **means}


def main(
    output: Annotated[Path | None, typer.Option(help="JSON file to write (default: none).")] = None,
    replicas: Annotated[bool, typer.Option(help="Run two real replicas.")] = True,
    simulation: Annotated[bool, typer.Option(help="Simulate a step of 64 replicas.")] = True,
    seeds: Annotated[int, typer.Option(help="Simulated steps per case.")] = 3,
) -> None:
    """Run the benchmark, print the result and write the JSON."""
    result: dict[str, Any] = {"command": "python scripts/bench/routing.py --output docs/results/routing.json"}
    if replicas:
        result["replicas"] = run_replicas()
    if simulation:
        cases = [(per, rollouts, over) for per in (4, 16, 32) for rollouts in (8, 16) for over in (5.0, 200.0)]
        result["simulation"] = [run_simulation(per, rollouts, seeds, over) for per, rollouts, over in cases]
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if output is not None:
        output.write_text(text)


if __name__ == "__main__":
    typer.run(main)
