"""verl's agent loops, which mark the rows of a prompt so that TransferQueue stores it once (`trainer/prompt_store.py`).

Set `actor_rollout_ref.rollout.agent.agent_loop_manager_class` to `AgentLoopManagerOncePerPrompt`. With null there, verl
stores the prompt once per rollout.
"""

from contextlib import nullcontext
from typing import Any

import ray
import transfer_queue as tq
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from verl_longrl.trainer.prompt_store import PromptStore

_AgentLoopWorker: type = AgentLoopWorkerTQ.__ray_metadata__.modified_class  # type: ignore[attr-defined]


@ray.remote
class AgentLoopWorkerOncePerPrompt(_AgentLoopWorker):  # type: ignore[misc, valid-type]
    """verl's worker, which runs all rollouts of a prompt."""

    async def _run_prompt(self, prompt: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        # A PromptStore, unless another backend is configured.
        store = tq.get_client().storage_manager
        with store.group(prompt["uid"]) if isinstance(store, PromptStore) else nullcontext():
            await super()._run_prompt(prompt, *args, **kwargs)


class AgentLoopManagerOncePerPrompt(AgentLoopManagerTQ):
    """verl's manager with `AgentLoopWorkerOncePerPrompt` as workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class: Any = AgentLoopWorkerOncePerPrompt
