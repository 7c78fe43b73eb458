"""A call has a deadline in CPU time wherever it is made, and the next call is answered."""

import asyncio
import operator
import os
import signal
import threading
import time

import pytest
from verl_longrl.rewards.isolation import cpu_deadline

ENDLESS = (operator.pow, 9, 9**9)


def test_the_result_and_the_exception():
    assert cpu_deadline.run(operator.add, "a", "b", seconds=60) == "ab"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        cpu_deadline.run(operator.truediv, 1, 0, seconds=60)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (ENDLESS, "took too long"),
        ((signal.raise_signal, signal.SIGSEGV), "ended its process"),
        ((operator.mul, [0], 10**12), "memory"),
    ],
)
def test_a_call_that_has_no_end_is_ended_and_the_next_one_answered(call, problem):
    with pytest.raises(cpu_deadline.CpuDeadlineError, match=problem):
        cpu_deadline.run(*call, seconds=0.2)
    assert cpu_deadline.run(operator.add, 1, 1, seconds=60) == 2


def test_waiting_costs_nothing():
    cpu_deadline.run(time.sleep, 0.3, seconds=0.2)


def test_inside_an_event_loop_and_in_threads():
    async def call():
        return cpu_deadline.run(operator.add, 1, 1, seconds=60)

    assert asyncio.run(call()) == 2
    results = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(cpu_deadline.run(operator.neg, i, seconds=60) == -i))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


def test_a_fork_has_a_helper_of_its_own():
    assert cpu_deadline.run(operator.add, 1, 1, seconds=60) == 2
    pid = os.fork()
    if pid == 0:
        os._exit(cpu_deadline._helper is not None)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_helper_that_was_killed_before_a_call_is_replaced():
    pid = cpu_deadline.run(os.getppid, seconds=60)
    os.kill(pid, signal.SIGKILL)
    assert cpu_deadline.run(operator.add, 1, 1, seconds=60) == 2


def test_a_helper_that_is_killed_is_an_error_and_is_replaced():
    with pytest.raises(RuntimeError, match="the helper process was killed"):
        cpu_deadline.run(signal.raise_signal, signal.SIGKILL, seconds=60)
    assert cpu_deadline.run(operator.add, 1, 1, seconds=60) == 2
