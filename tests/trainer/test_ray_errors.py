"""Each kind of death that Ray reports is explained in one line; an error of the program is not a death."""

import os
import signal
import time

import pytest
import ray
from ray import exceptions
from verl_longrl.trainer.actor_health import ActorWatch, _cause
from verl_longrl.trainer.ray_errors import find_death

pytestmark = pytest.mark.engine
NO_ROOM = "has no room to spill to. Fix: free the disk"
KINDS = {
    "crashed": (exceptions.WorkerCrashedError(), "The worker died unexpectedly"),
    "raylet": (exceptions.LocalRayletDiedError(), "local raylet died"),
    "node": (exceptions.NodeDiedError("node 10.0.0.3 died"), "node 10.0.0.3 died"),
    "lost": (exceptions.ObjectLostError("ab" * 28, None, ""), "lost"),
    "owner": (exceptions.OwnerDiedError("ab" * 28, None, ""), "owner"),
    "store full": (exceptions.ObjectStoreFullError("full"), NO_ROOM),
    "disk full": (exceptions.OutOfDiskError("full"), NO_ROOM),
    "system": (exceptions.RaySystemError("the raylet is gone"), "the raylet is gone"),
    "unavailable": (exceptions.ActorUnavailableError("no answer", None), "no answer"),
    "unschedulable": (exceptions.ActorUnschedulableError("no node has it"), "no node has it"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("raised", ["as it is", "in a task", "from", "while"])
def test_every_kind_wherever_it_was_raised(kind, raised):
    error, says = KINDS[kind]
    if raised == "in a task":
        error = in_a_task(error)
    elif raised != "as it is":
        try:
            try:
                raise error
            except exceptions.RayError as first:
                if raised == "from":
                    raise ConnectionError("storage unit 3 does not answer") from first
                raise ConnectionError("storage unit 3 does not answer")  # noqa: B904
        except ConnectionError as second:
            error = second
    line = find_death(error)
    assert line is not None
    assert says in line
    assert not {"\n", "\x1b"} & set(line)


def in_a_task(error):
    return exceptions.RayTaskError("f", "Traceback", error, "p", 1, "10.0.0.1").as_instanceof_cause()


def test_a_ray_that_does_not_start():
    """Ray says it in a plain Exception."""
    error = Exception(
        "The current node timed out during startup. This could happen because some of the raylet failed to startup or "
        "the GCS has become overloaded."
    )
    assert find_death(error) == "Ray did not start on this machine, which may be too busy"
    assert find_death(Exception("timed out")) is None


def test_a_vllm_server_that_lives_on_without_its_engine():
    from vllm.v1.engine.exceptions import EngineDeadError

    assert find_death(EngineDeadError()) == find_death(in_a_task(EngineDeadError()))
    assert "a vLLM engine died" in find_death(EngineDeadError())


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        TimeoutError("late"),
        exceptions.RaySystemError(ModuleNotFoundError("no such module"), "Traceback of unpickling"),
        exceptions.RuntimeEnvSetupError("pip failed"),
    ],
)
def test_an_error_of_the_program_is_not_a_death(error):
    assert find_death(error) is None
    assert find_death(in_a_task(error)) is None


def worker():
    """A Ray class; made here, for workers cannot import this module."""

    class Worker:
        def __init__(self, broken: bool = False) -> None:
            if broken:
                raise ValueError("bad configuration")

        def die(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def hold(self) -> None:
            self.held = bytearray(100 * 2**20)
            time.sleep(60)

    return ray.remote(num_cpus=0)(Worker)


def test_what_ray_itself_reports(monkeypatch):
    """Of an actor whose __init__ fails, and of one that is killed."""
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        actor = worker()
        with pytest.raises(exceptions.RayActorError) as broken:
            ray.get(actor.remote(True).die.remote())
        assert "bad configuration" in str(broken.value)
        assert find_death(broken.value) is None
        with pytest.raises(exceptions.RayActorError) as killed:
            ray.get(actor.remote().die.remote())
        line = find_death(killed.value)
        assert line is not None
        assert line.startswith("Worker (process ")
        assert "died: its process crashed or was killed, perhaps by the kernel" in line
    finally:
        ray.shutdown()


def test_a_memory_that_was_short(monkeypatch):
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "250")
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # so it is always short
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        holder = worker().remote()
        with pytest.raises(exceptions.OutOfMemoryError) as short:
            ray.get(holder.hold.remote(), timeout=60)
        line = find_death(short.value)
        assert line is not None
        assert "was short (" in line
        assert "Ray's memory monitor ended Worker (process " in line
        assert "most was held by " in line
        assert "Lower reward.num_workers" in line
        assert "\n" not in line
        (actor,) = ActorWatch()._actors().values()
        assert _cause(actor) == line  # what the watch tells where no call was under way
    finally:
        ray.shutdown()
