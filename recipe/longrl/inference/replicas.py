"""vLLM replicas on the cluster's GPUs for generating with fixed weights: one engine per tensor-parallel group.

In training, vLLM shares its GPUs with the trainer and receives new weights every step. For fixed weights, that would
waste memory and start-up time, so the engines here are plain ones with the rollout settings of the run.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import ray
from omegaconf import DictConfig

from recipe.longrl import ray_token
from recipe.longrl.local_ray import own_ray
from recipe.longrl.settings import plain
from recipe.longrl.worker_env import forward_env, runtime_env


class _Replica:
    """A Ray actor with one engine."""

    async def start(self, arguments: dict[str, Any]) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self.engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

    async def generate(self, name: str, prompt_ids: list[int], sampling: dict[str, Any]) -> list[list[int]]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(**sampling, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
        async for output in self.engine.generate({"prompt_token_ids": prompt_ids}, parameters, name):
            if output.finished:
                return [list(completion.token_ids) for completion in output.outputs]
        raise RuntimeError(f"vLLM ended request {name} without an answer")

    async def stop(self) -> None:
        self.engine.shutdown()


class Replicas:
    """As many engines as a run's hardware has room for, to use in one event loop between `start` and `stop`.

    config: a resolved configuration, with the model, `actor_rollout_ref.rollout` and hardware of training.
    """

    def __init__(self, config: DictConfig) -> None:
        rollout = config.actor_rollout_ref.rollout
        self.config, self.gpus = config, rollout.tensor_model_parallel_size
        devices = config.trainer.nnodes * config.trainer.n_gpus_per_node
        if self.gpus > config.trainer.n_gpus_per_node:
            raise ValueError(
                f"actor_rollout_ref.rollout.tensor_model_parallel_size = {self.gpus}: an engine with fixed weights "
                f"needs all its GPUs on one node, which has {config.trainer.n_gpus_per_node}"
            )
        self.count = devices // self.gpus

    async def start(self) -> None:
        """Join or start Ray, and wait until every engine is ready."""
        with ExitStack() as running:
            python = running.enter_context(own_ray(self.config))
            running.enter_context(forward_env(self.config))
            _start_ray(self.config, python)
            actor: Any = ray.remote(_Replica).options(num_gpus=self.gpus, num_cpus=1, max_concurrency=1000)
            self._actors: list[Any] = [actor.remote() for _ in range(self.count)]
            self._waiting = [0] * self.count
            arguments = engine_arguments(self.config)
            # Each engine has its own seed, because vLLM's CPU build does not support a seed for each request.
            seed = self.config.actor_rollout_ref.rollout.seed
            starts = (actor.start.remote({**arguments, "seed": seed + at}) for at, actor in enumerate(self._actors))
            await asyncio.gather(*starts)
            # Keeps Ray and the forwarded variables until `stop`.
            self._running = running.pop_all()

    async def stop(self) -> None:
        """End the engines and leave Ray."""
        await asyncio.wait([actor.stop.remote().as_future() for actor in self._actors], timeout=30)
        for actor in self._actors:
            ray.kill(actor)
        ray.shutdown()
        self._running.close()

    async def generate(self, name: str, prompt_ids: list[int], sampling: dict[str, Any]) -> list[list[int]]:
        """Token ids of `sampling["n"]` responses from the engine with the fewest prompts. name: unique."""
        least = min(range(self.count), key=lambda at: self._waiting[at])
        self._waiting[least] += 1
        try:
            return await self._actors[least].generate.remote(name, prompt_ids, sampling)
        finally:
            self._waiting[least] -= 1


def engine_arguments(config: DictConfig) -> dict[str, Any]:
    """Arguments of vLLM's engine, as verl sets them (vllm_async_server.py), except those for updating weights."""
    rollout, model = config.actor_rollout_ref.rollout, config.actor_rollout_ref.model
    copied = (
        "dtype",
        "max_model_len",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enforce_eager",
        "enable_chunked_prefill",
    )
    more: dict[str, Any] = plain(rollout.engine_kwargs.vllm) if rollout.engine_kwargs.get("vllm") else {}
    return {
        "model": model.path,
        "tokenizer": model.tokenizer_path or model.path,
        "trust_remote_code": model.trust_remote_code,
        **{name: rollout[name] for name in copied},
        "enable_prefix_caching": True,
        "gpu_memory_utilization": rollout.gpu_memory_utilization,
        "tensor_parallel_size": rollout.tensor_model_parallel_size,
        "distributed_executor_backend": "mp",
        **{name: value for name, value in more.items() if value is not None},
    }


def _start_ray(config: DictConfig, python: str | None) -> None:
    """Join or start Ray as training does (verl's run_ppo).

    python: the command that starts workers; None for this Python.
    """
    settings, environment = plain(config.ray_kwargs.ray_init), runtime_env(config)
    if python is not None:
        environment["py_executable"] = python
    ray_token.make_token_private(config)
    ray.init(**{**settings, "runtime_env": environment}, log_to_driver=True)
