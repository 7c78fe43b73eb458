"""A file, a dead actor or failed rollouts end a run early; an actor that is restarted does not."""

import os
import signal
import time

import pytest
import ray
from verl_longrl.trainer import interruption
from verl_longrl.trainer.actor_health import ActorWatch
from verl_longrl.trainer.interruption import Interruptions
from verl_longrl.trainer.ray_errors import ENDED

pytestmark = pytest.mark.engine


class Actors:
    """Replaces `ActorWatch`."""

    def __init__(self) -> None:
        self.gone: list[str] = []
        self.again: list[str] = []

    def poll(self) -> tuple[list[str], list[str]]:
        again, self.again = self.again, []
        return self.gone, again


@pytest.fixture
def actors() -> Actors:
    return Actors()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def interruptions(tmp_path, actors, said, monkeypatch) -> Interruptions:
    monkeypatch.setattr(interruption, "POLL_EVERY_S", 0.0)
    return Interruptions(tmp_path / interruption.STOP_FILE, actors, said.append)


def test_nothing_is_wrong(interruptions, said):
    assert interruptions.reason() is None
    assert said == []


def test_asked_to_stop(interruptions):
    interruptions.stop_file.write_text("SIGUSR1")
    assert interruptions.reason() == "asked to stop (SIGUSR1)"
    interruptions.stop_file.write_text("")  # `touch`
    assert interruptions.reason() == f"asked to stop ({interruptions.stop_file})"


def test_a_dead_actor_is_the_reason_before_the_rollouts_that_failed_of_it(interruptions, actors):
    assert interruptions.reason(2) == "the rollouts of 2 prompts failed; train.log has their errors"
    actors.gone = ["vLLMHttpServer died: killed"]
    assert interruptions.reason(2) == "vLLMHttpServer died: killed"


def test_an_actor_started_again_is_told_and_no_reason(interruptions, actors, said):
    actors.again = ["RewardLoopWorker died and is being restarted"]
    assert interruptions.reason() is None
    assert interruptions.reason() is None
    assert said == ["RewardLoopWorker died and is being restarted"]


def test_polls_now_and_then_or_at_once(interruptions, monkeypatch):
    monkeypatch.setattr(interruption, "POLL_EVERY_S", 3600.0)
    assert interruptions.reason() is None
    interruptions.stop_file.touch()
    assert interruptions.reason() is None
    assert interruptions.reason(failed_rollouts=1).startswith("asked to stop")
    assert interruptions.reason(at_once=True).startswith("asked to stop")


def test_actors_that_are_killed():
    """Real Ray: one that may be started again, one that may not, one that dies by itself before the watch."""

    class Worker:
        def pid(self) -> int:
            return os.getpid()

    def until(reached) -> None:
        deadline = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        lasting = ray.remote(num_cpus=0, max_restarts=1, max_task_retries=3)(Worker).options(name="lasting").remote()
        mortal, earlier = (ray.remote(num_cpus=0)(Worker).remote() for _ in range(2))
        pids = ray.get([actor.pid.remote() for actor in (lasting, mortal, earlier)])
        ray.kill(earlier)
        until(lambda: any(actor["State"] == "DEAD" for actor in ActorWatch()._actors().values()))
        watch = ActorWatch()
        assert watch.poll() == ([], [])
        os.kill(pids[0], signal.SIGKILL)
        os.kill(pids[1], signal.SIGKILL)
        gone: list[str] = []
        told: list[str] = []

        def both() -> bool:
            dead, again = watch.poll()
            gone[:] = dead
            told.extend(again)
            return bool(gone and told)

        until(both)
        (line,) = gone
        assert line.startswith(f"Worker (process {pids[1]} on ")
        assert line.endswith(f"died: {ENDED}")
        (line,) = told
        assert line.startswith("Worker lasting (process ")
        assert ray.get(lasting.pid.remote()) != pids[0]
    finally:
        ray.shutdown()
