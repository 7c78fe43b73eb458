"""Find dead Ray actors of the run, and restart reward workers.

A trainer that waits for the output of a dead vLLM replica, agent loop worker or storage unit never notices: verl polls
forever. Ray's control store knows of deaths, and answers for hundreds of actors in milliseconds.

Reward workers have no state, so the death of one does not end the run: Ray restarts it and repeats its pending
requests.
"""

from collections.abc import Sequence
from typing import Any, Self

import ray
from omegaconf import DictConfig

# The public list_actors needs Ray's dashboard, which not every cluster has.
from ray._private import state
from ray.actor import ActorHandle
from ray.exceptions import RayError
from verl.experimental.reward_loop.reward_loop import RewardLoopManager, RewardLoopWorker

from verl_longrl.trainer.ray_errors import explain_death

RESTARTS, SCORE_RETRIES = 10, 3


class RestartedRewardLoopManager(RewardLoopManager):
    """verl's manager with workers that are restarted when they die, and scoring requests that are then repeated."""

    def _init_reward_loop_workers(self) -> None:
        self.reward_loop_workers_class = _RestartedWorkerClass(self.config)  # type: ignore[assignment]
        super()._init_reward_loop_workers()


class _RestartedWorkerClass:
    """The Ray class of verl's reward worker, with restarts.

    Ray puts an argument as large as the configuration into its object store and drops it once the actor runs, after
    which it cannot restart the actor. So the configuration is put there, and kept, here.
    """

    def __init__(self, config: DictConfig) -> None:
        self._config = ray.put(config)
        self._options: dict[str, Any] = {"max_restarts": RESTARTS, "max_task_retries": SCORE_RETRIES}

    def options(self, **options: Any) -> Self:
        self._options.update(options)
        return self

    def remote(self, config: DictConfig, reward_router_address: str | None) -> Any:
        return ray.remote(RewardLoopWorker).options(**self._options).remote(self._config, reward_router_address)


class ActorWatch:
    """Watches the actors of this job that are alive when it is created."""

    def __init__(self) -> None:
        self._job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
        self._restarts = {key: actor["NumRestarts"] for key, actor in self._actors().items() if _alive(actor)}

    def poll(self) -> tuple[list[str], list[str]]:
        """A line for each actor that has died for good, and for each that was restarted since the last poll."""
        dead, restarted = [], []
        for key, actor in self._actors().items():
            # Created after the watch.
            if key not in self._restarts:
                continue
            if actor["State"] == "DEAD":
                dead.append(f"{_name(actor)} died: {_cause(actor)}")
            elif actor["NumRestarts"] > self._restarts[key]:
                restarted.append(f"{_name(actor)} died and is being restarted")
                self._restarts[key] = actor["NumRestarts"]
        return dead, restarted

    def _actors(self) -> dict[str, dict[str, Any]]:
        return state.actors(job_id=self._job)


def all_answer(handles: Sequence[ActorHandle], within_s: float) -> bool:
    """Whether all of these actors run a call. One that is dead, or waits for a dead one, does not."""
    try:
        ray.get([handle.__ray_call__.remote(_nothing) for handle in handles], timeout=within_s)
    except RayError:
        return False
    return True


def _nothing(actor: Any) -> None: ...


def _alive(actor: dict[str, Any]) -> bool:
    return actor["State"] in ("ALIVE", "RESTARTING")


def _name(actor: dict[str, Any]) -> str:
    name = f" {actor['Name']}" if actor["Name"] else ""
    kind = actor["ActorClassName"].rsplit(".", 1)[-1]
    return f"{kind}{name} (process {actor['Pid']} on {actor['Address']['IPAddress']})"


def _cause(actor: dict[str, Any]) -> str:
    """Ray's explanation, or the last line of a traceback."""
    cause = actor["DeathCause"]
    kind = cause.WhichOneof("context")
    if kind is None:
        return "its owner process or node died"
    if kind == "creation_task_failure_context":
        return cause.creation_task_failure_context.formatted_exception_string.strip().splitlines()[-1]
    return explain_death(getattr(cause, kind).error_message)
