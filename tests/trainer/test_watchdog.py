"""A watchdog prints a line when there is no progress, with the stage, and is silent while there is some."""

import threading
import time
from types import SimpleNamespace

from verl_longrl.trainer.watchdog import STAGES, Watchdog, stage_of

POLL = 0.01


class PrintedLines(list[str]):
    """The lines that were printed, with a way to wait for them."""

    def wait(self, lines: int = 1) -> None:
        deadline = time.monotonic() + 20
        while len(self) < lines:
            assert time.monotonic() < deadline, f"only {self}"
            time.sleep(POLL)


def watchdog(printed: PrintedLines, seconds: float, progress=lambda: 0, details=lambda: "") -> Watchdog:
    return Watchdog(seconds / 60, progress, details, printed.append, poll_every_s=POLL)


def _update_actor(wait) -> None:
    wait()


def test_says_the_stage_and_what_is_waited_for_and_again_after_twice_as_long():
    printed = PrintedLines()
    with watchdog(printed, 0.05, details=lambda: "row 7 is the oldest"):
        _update_actor(lambda: printed.wait(2))
    assert printed[0].startswith("no progress for ")
    assert printed[0].endswith(": updating the actor; row 7 is the oldest")


def test_silent_while_something_moves():
    printed, count = PrintedLines(), iter(range(10**9))
    with watchdog(printed, 5 * POLL, progress=lambda: next(count)):
        time.sleep(30 * POLL)
    assert printed == []


def test_a_change_of_stage_is_progress():
    printed = PrintedLines()
    with watchdog(printed, 20):
        _update_actor(lambda: time.sleep(5 * POLL))
    assert printed == []


def test_details_that_cannot_be_had_do_not_hide_the_line():
    def dead() -> str:
        raise ConnectionError("the balancer is gone")

    printed = PrintedLines()
    with watchdog(printed, 0.05, details=dead):
        printed.wait()
    assert "the router does not answer: ConnectionError: the balancer is gone" in printed[0]


def test_zero_switches_it_off():
    before = threading.active_count()
    with watchdog(PrintedLines(), 0):
        assert threading.active_count() == before


def test_the_innermost_known_function_is_the_stage():
    def frame(name, back=None, file="/x/ray/worker.py"):
        return SimpleNamespace(f_code=SimpleNamespace(co_name=name, co_filename=file), f_lineno=3, f_back=back)

    validating = frame("get", frame("sample", frame("_validate", frame("fit"))))
    assert stage_of(validating) == "waiting for rollouts"
    assert stage_of(frame("read", frame("work", file="/x/verl/t.py"))) == "in work (/x/verl/t.py:3)"
    assert stage_of(frame("read", frame("work"))) == "in read (/x/ray/worker.py:3)"
    assert stage_of(None) == "the trainer's thread has ended"


def test_stages_are_functions_of_upstreams_trainer_or_ours():
    from verl.checkpoint_engine import CheckpointEngineManager
    from verl.experimental.agent_loop import AgentLoopManager
    from verl_longrl.trainer.group_filtering import FilteringReplayBuffer

    from recipe.longrl.evaluation.in_training import EvaluatingTrainer

    owners = (EvaluatingTrainer, FilteringReplayBuffer, CheckpointEngineManager, AgentLoopManager)
    assert [name for name in STAGES if not any(hasattr(owner, name) for owner in owners)] == []
