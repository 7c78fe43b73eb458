"""What prompt-affinity routing saves: prompt tokens prefilled, against verl's balancer.

    python scripts/bench/routing.py [--output docs/results/routing.json]

`replicas`: two real vLLM replicas of verl behind the real balancer actors and clients; a few prompts, 8 rollouts each,
all asked for at once, of a tiny random model. Prefilled tokens are vLLM's own counter
(vllm:prompt_tokens_by_source, local_compute), and beside both balancers stands what one replica makes of 8
simultaneous requests for one prompt. Every request but the first recomputes the prompt's last, incomplete block; blocks
have 32 tokens here (16 on GPUs; vLLM's default of 128 on CPUs would blur prompts as short as these).

`simulation`: a step of 64 replicas with strongly skewed prompts (routing_simulation.py), means over the seeds;
`prefill` and `work` say how much the busiest replica has, in multiples of the mean.
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
"""Of the prompts that real replicas answer, in tokens."""
SAMPLING = {"temperature": 1.0, "max_tokens": RESPONSE, "ignore_eos": True}
REPLICAS = 64
COUNTER = "vllm:prompt_tokens_by_source_total"


def build_model(folder: Path) -> int:
    """A random one-layer Qwen3 that takes 8K tokens, with the demo's tokenizer. Returns the vocabulary's size."""
    tokenizer = demo_tokenizer.build()
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


def configuration(model: Path) -> DictConfig:
    """A run's, with two replicas on logical devices of their own."""
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


async def prefilled(addresses: list[str]) -> list[int]:
    """Prompt tokens that each replica has computed so far."""

    def read(address: str) -> int:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        return sum(
            round(float(line.rsplit(" ", 1)[1]))
            for line in lines
            if line.startswith(COUNTER) and 'source="local_compute"' in line
        )

    return await asyncio.gather(*(asyncio.to_thread(read, address) for address in addresses))


async def answer(client: LLMServerClient, prompts: list[list[int]]) -> None:
    """All rollouts of all prompts at once."""
    requests = [prompt for prompt in prompts for _ in range(ROLLOUTS)]
    await asyncio.gather(
        *(client.generate(uuid4().hex, prompt_ids=prompt, sampling_params=dict(SAMPLING)) for prompt in requests)
    )


async def answer_on(server: Any, prompt: list[int]) -> None:
    """All rollouts of a prompt at once, on one replica."""
    await asyncio.gather(
        *(
            server.generate.remote(prompt_ids=prompt, sampling_params=dict(SAMPLING), request_id=uuid4().hex)
            for _ in range(ROLLOUTS)
        )
    )


async def on_replicas(config: DictConfig, vocabulary: int) -> dict[str, Any]:
    """Prompt tokens that both replicas prefilled, by who chose between them; caches are emptied in between, as they
    are between steps."""
    manager = await LLMServerManager.create(config=config)
    addresses, handles, draw = manager.get_addresses(), manager.server_handles, random.Random(0)
    prompts = [[draw.randrange(20, vocabulary) for _ in range(length)] for length in LENGTHS]
    upstream = LLMServerClient(config, get_router_handle(dict(zip(addresses, handles, strict=True))))
    ours = manager.get_client(client_cls=PromptAffinityClient)
    results: dict[str, Any] = {}
    for name, asked, answers in (
        ("one_replica", prompts[:1], answer_on(handles[0], prompts[0])),
        ("upstream", prompts, answer(upstream, prompts)),
        ("prompt_affinity", prompts, answer(ours, prompts)),
    ):
        await asyncio.gather(*(replica.clear_kv_cache() for replica in manager.get_replicas()))
        before = await prefilled(addresses)
        await answers
        by_replica = [after - was for after, was in zip(await prefilled(addresses), before, strict=True)]
        unique = sum(map(len, asked))
        results[name] = {"unique": unique, "prefilled": by_replica, "times_unique": round(sum(by_replica) / unique, 3)}
    status = await manager.global_load_balancer.get_status.remote()
    results["prompt_affinity"]["balancer"] = {key: status[key] for key in ("requests", "prefill_tokens", "spilled")}
    return results


def measure() -> dict[str, Any]:
    """`on_replicas` within a Ray of its own."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = build_model(Path(folder))
        config = configuration(Path(folder))
        ray_settings = settings.plain(config.ray_kwargs.ray_init)
        del ray_settings["runtime_env"]
        ray.init(address="local", **ray_settings, runtime_env=worker_env.runtime_env(config))
        try:
            return asyncio.run(on_replicas(config, vocabulary))
        finally:
            ray.shutdown()


def simulated(per_replica: int, rollouts: int, seeds: int, over_s: float) -> dict[str, Any]:
    """Both balancers on the same steps of `per_replica` prompts for each replica."""
    found: dict[str, list[dict[str, float]]] = {"upstream": [], "prompt_affinity": []}
    names = [f"replica-{number}" for number in range(REPLICAS)]
    for seed in range(seeds):
        requests = skewed_step(per_replica * REPLICAS, rollouts, seed, over_s)
        unique = sum({request.prompt: request.prompt_tokens for request in requests}.values())
        random.seed(seed)  # verl's balancer draws among equals
        ways = {"upstream": GlobalRequestLoadBalancer, "prompt_affinity": PromptAffinityBalancer}
        for way, balancer in ways.items():
            loads = simulate(balancer(dict.fromkeys(names)), requests)
            found[way].append(
                {
                    "prefilled_times_unique": sum(loads.prefill) / unique,
                    "prefill": Loads.unevenness(loads.prefill),
                    "work": Loads.unevenness(loads.work),
                    "busiest_tokens": max(loads.work),
                    "seconds": loads.seconds,
                }
            )
    means = {
        way: {key: float(f"{sum(run[key] for run in runs) / seeds:.3g}") for key in runs[0]}
        for way, runs in found.items()
    }
    return {"prompts_per_replica": per_replica, "rollouts": rollouts, "over_s": over_s, "seeds": seeds, **means}


def main(
    output: Annotated[Path | None, typer.Option(help="Where the result goes as JSON; not written otherwise.")] = None,
    replicas: Annotated[bool, typer.Option(help="Start two real replicas.")] = True,
    simulation: Annotated[bool, typer.Option(help="Simulate a step of 64 replicas.")] = True,
    seeds: Annotated[int, typer.Option(help="Simulated steps of each kind.")] = 3,
) -> None:
    """Measure and print."""
    result: dict[str, Any] = {"command": "python scripts/bench/routing.py --output docs/results/routing.json"}
    if replicas:
        result["replicas"] = measure()
    if simulation:
        kinds = [(per, rollouts, over) for per in (4, 16, 32) for rollouts in (8, 16) for over in (5.0, 200.0)]
        result["simulation"] = [simulated(per, rollouts, seeds, over) for per, rollouts, over in kinds]
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if output is not None:
        output.write_text(text)


if __name__ == "__main__":
    typer.run(main)
