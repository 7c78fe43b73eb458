"""Which of the run's Ray actors have died, and where.

A dead vLLM replica, agent loop worker or storage unit is not noticed by a trainer that waits for what they would have
given: verl polls for ever. Ray's control store knows, and answers for hundreds of actors in milliseconds.

Reward workers have no state, so a dead one is no reason to end: Ray starts it again and repeats what it was asked.
"""

from collections.abc import Sequence
from typing import Any, Self

import ray
from omegaconf import DictConfig
from ray._private import state  # the public list_actors needs a dashboard, which not every cluster has
from ray.actor import ActorHandle
from ray.exceptions import RayError
from verl.experimental.reward_loop.reward_loop import RewardLoopManager, RewardLoopWorker

from verl_longrl.trainer.ray_errors import explained

RESTARTS, SCORE_RETRIES = 10, 3


class RestartedRewardLoopManager(RewardLoopManager):
    """verl's, with workers that are started again when they die, and scores that are then asked for again."""

    def _init_reward_loop_workers(self) -> None:
        self.reward_loop_workers_class = _Restarted(self.config)  # type: ignore[assignment]
        super()._init_reward_loop_workers()


class _Restarted:
    """The Ray class of verl's reward worker. An argument as large as the configuration is put into Ray's store, and
    dropped once the actor runs; Ray could not start it again. So it is put there, and held, here."""

    def __init__(self, config: DictConfig) -> None:
        self._config = ray.put(config)
        self._options: dict[str, Any] = {"max_restarts": RESTARTS, "max_task_retries": SCORE_RETRIES}

    def options(self, **options: Any) -> Self:
        self._options.update(options)
        return self

    def remote(self, config: DictConfig, reward_router_address: str | None) -> Any:
        return ray.remote(RewardLoopWorker).options(**self._options).remote(self._config, reward_router_address)


class ActorWatch:
    """The actors of this job that live when the watch is made."""

    def __init__(self) -> None:
        self._job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
        self._restarts = {key: actor["NumRestarts"] for key, actor in self._actors().items() if _alive(actor)}

    def look(self) -> tuple[list[str], list[str]]:
        """A line for each that has died for good, and for each that was started again since the last look."""
        dead, restarted = [], []
        for key, actor in self._actors().items():
            if key not in self._restarts:
                continue
            if actor["State"] == "DEAD":
                dead.append(f"{_name(actor)} died: {_cause(actor)}")
            elif actor["NumRestarts"] > self._restarts[key]:
                restarted.append(f"{_name(actor)} died and is started again")
                self._restarts[key] = actor["NumRestarts"]
        return dead, restarted

    def _actors(self) -> dict[str, dict[str, Any]]:
        return state.actors(job_id=self._job)


def answer(handles: Sequence[ActorHandle], within_s: float) -> bool:
    """Whether all of these actors do what they are told; one that is dead, or waits for what is dead, does not."""
    try:
        ray.get([handle.__ray_call__.remote(_nothing) for handle in handles], timeout=within_s)
    except RayError:
        return False
    return True


def _nothing(actor: Any) -> None: ...


def _alive(actor: dict[str, Any]) -> bool:
    return actor["State"] in ("ALIVE", "RESTARTING")


def _name(actor: dict[str, Any]) -> str:
    named = f" {actor['Name']}" if actor["Name"] else ""
    kind = actor["ActorClassName"].rsplit(".", 1)[-1]
    return f"{kind}{named} (process {actor['Pid']} on {actor['Address']['IPAddress']})"


def _cause(actor: dict[str, Any]) -> str:
    """Ray's explanation, or the last line of a traceback."""
    cause = actor["DeathCause"]
    kind = cause.WhichOneof("context")
    if kind is None:
        return "its creator or its node is gone"
    if kind == "creation_task_failure_context":
        return cause.creation_task_failure_context.formatted_exception_string.strip().splitlines()[-1]
    return explained(getattr(cause, kind).error_message)
