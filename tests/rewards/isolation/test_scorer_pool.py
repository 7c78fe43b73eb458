"""A response that breaks or hangs its scorer affects no other response."""

import asyncio
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from verl_longrl.rewards import RewardOptions, score_async
from verl_longrl.rewards.isolation.scorer_pool import MAX_SLOW, IsolatedScorer
from verl_longrl.rewards.score import Score, scores_from_json, scores_to_json
from verl_longrl.rewards.scoring import Job

MINE = str(Path(__file__).parents[1] / "my_scorers.py")
DEADLINE = 0.5
OPTIONS = RewardOptions(scorers=(MINE,), timeout_s=DEADLINE, workers=2)


@pytest.fixture(scope="module")
def isolation():
    with IsolatedScorer(OPTIONS) as scorer:
        yield scorer


class Unreadable:
    """Pickles; unpickling raises."""

    def __reduce__(self):
        return int, ("not a number",)


def run(isolation, response, ground_truth="", timeout_s=60.0):
    return isolation.score_for_each_verdict_blocking(
        Job("probe", response, ground_truth, {}, RewardOptions(timeout_s=timeout_s))
    )[0]


def wait_for_end(pid, seconds=20):
    """Until the process has ended, reaped or not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state in "ZX":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still in state {state}")


@pytest.mark.parametrize("response", ["regex", "power", "sympy", "loop"])
def test_a_hang_costs_its_deadline(isolation, response):
    started = time.monotonic()
    result = run(isolation, response, timeout_s=DEADLINE)
    assert (result.status, result.value) == ("timeout", 0)
    assert "timeout_s = 0.5 s" in result.reason
    assert DEADLINE * 0.9 <= time.monotonic() - started < DEADLINE + 20  # generous: this machine may be busy
    assert run(isolation, "fine").status == "ok"


@pytest.mark.parametrize(
    ("response", "argument", "reason"),
    [
        ("exit", 3, "process died"),
        ("exit", 0, "process died"),
        ("sys.exit", 0, "process died"),
        ("raise", 0, "KeyError: 'a bug in the scorer'"),
        ("memory", 0, "MemoryError"),
        ("nothing", 0, "returned NoneType, expected Score"),
        ("lambda", 0, "cannot be sent between processes"),
        ("unreadable", 0, "cannot be sent between processes: TypeError: "),
        ("too much", 0, "process died"),
        ("fine", lambda: 0, "cannot be sent to a scorer process: "),
        ("fine", threading.Lock(), "cannot be sent to a scorer process: TypeError: cannot pickle"),
        ("fine", Unreadable(), "cannot be sent between processes: ValueError: "),
    ],
)
def test_a_broken_scorer_or_sample_is_counted_and_the_pool_continues(isolation, response, argument, reason):
    before = isolation.metrics()["scorer_errors"]
    result = run(isolation, response, argument)
    assert result.status == "scorer_error"
    assert reason in result.reason
    assert isolation.metrics()["scorer_errors"] == before + 1
    assert [run(isolation, "fine").status for _ in range(4)] == ["ok"] * 4


@pytest.mark.parametrize("hanging", [1, 8])  # 8: four times the workers, and they arrive first
def test_hanging_responses_delay_no_other(hanging):
    patient = RewardOptions(timeout_s=60)

    async def scenario():
        with IsolatedScorer(OPTIONS) as own:
            stuck = [
                asyncio.create_task(
                    own.score_for_each_verdict(Job("probe", ["regex", "power"][i % 2], "", {}, patient))
                )
                for i in range(hanging)
            ]
            await asyncio.sleep(0)
            normal = await asyncio.gather(
                *[own.score_for_each_verdict(Job("probe", "fine", "", {}, patient)) for _ in range(50)]
            )
            assert [result.status for (result,) in normal] == ["ok"] * 50
            assert not any(task.done() for task in stuck), "a normal response waited for a hanging one"
        return [(await task)[0].status for task in stuck]

    assert asyncio.run(scenario()) == ["scorer_error"] * hanging  # ended by close


def test_a_slow_scorer_within_its_deadline_is_not_punished(isolation):
    (slow,) = isolation.score_for_each_verdict_blocking(Job("probe", "sleep", 0.2, {}, RewardOptions(timeout_s=60)))
    assert slow.status == "ok"
    assert isolation.metrics()["slow"] >= 1


def test_scores_cannot_run_code_in_the_trainer(isolation, tmp_path):
    forged = tmp_path / "made by unpickling"
    result = run(isolation, "forged", str(forged))
    assert result.status == "scorer_error"
    assert "cannot be read outside its process" in result.reason
    assert not forged.exists()
    assert run(isolation, "fine").status == "ok"


@pytest.mark.parametrize(
    "sent",
    [
        *(
            b"",
            b"[]",
            b"{}",
            b"3",
            b"[1]",
            b"[" * 100_000,
            b'[["1", {}, "ok", "", null, []]]',
            b'[[1, [], "ok", "", null, []]]',
        ),
        *(b'[[1, {}, "great", "", null, []]]', b'[[1e999, {}, "ok", "", null, []]]'),
        *(b'[[1, {"a": "b"}, "ok", "", null, []]]', b'[[1, {}, "ok", 3, null, []]]', b'[[1, {}, "ok", "", {}, []]]'),
        *(b'[[1, {}, "ok", "", null, ["a"]]]', b'[[1, {}, "ok", "", null, [1.5]]]', b'[[1, {}, "ok", "", null, 3]]'),
    ],
)
def test_a_result_that_is_not_a_score_is_a_failure(isolation, sent):
    result = run(isolation, "sends", sent)
    assert result.status == "scorer_error"


def test_numbers_and_texts_of_other_libraries_come_back_plain():
    given = Score(np.float32(0.5), {"answer": np.int64(1)}, candidate=np.str_("Paris"), cited_ids=(np.int64(3), 1))
    (result,) = scores_from_json(scores_to_json([given]))
    assert (result.value, result.parts, result.candidate) == (0.5, {"answer": 1.0}, "Paris")
    assert (type(result.value), type(result.parts["answer"]), type(result.candidate)) == (float, float, str)
    assert (result.cited_ids, type(result.cited_ids[0])) == ((3, 1), int)


def test_a_scorer_has_no_secrets_network_or_privileges(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a-key-of-mine")
    monkeypatch.setenv("LONGRL_SECRETS_FILE", "/a/file")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:a-key-of-mine@host/v1")
    monkeypatch.setenv("PLAIN", "this")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = str(server.getsockname())
        with IsolatedScorer(OPTIONS) as own:
            environment = json.loads(run(own, "environment").candidate)
            assert environment["PLAIN"] == "this"
            assert "a-key-of-mine" not in str(environment)
            assert "LONGRL_SECRETS_FILE" not in environment
            assert (run(own, "privileges").value, run(own, "privileges").parts) == (1.0, {"user": os.getuid()})
            refused = run(own, "connect", address)
            assert refused.status == "scorer_error"
            assert "scorers have no access to the network" in refused.reason
            assert "longrl.reward.scorer_network=true" in refused.reason
            if networks_can_be_made():
                assert run(own, "connect by the kernel alone", address).value == -1.0
        with IsolatedScorer(dataclasses.replace(OPTIONS, scorer_network=True)) as own:
            assert run(own, "connect", address).status == "ok"
            assert "a-key-of-mine" in run(own, "environment").candidate


def networks_can_be_made():
    return subprocess.run(["unshare", "--user", "--net", "true"], stderr=subprocess.DEVNULL).returncode == 0


def test_the_longrlvr_scorer_and_unknown_sources(isolation):
    response = "<useful_chunks><CHUNK_1></useful_chunks><answer>Paris</answer>"
    (known,) = isolation.score_for_each_verdict_blocking(Job("longrlvr", response, "Paris", {"ref_chunks": [1]}))
    assert known.value == 2
    (unknown,) = isolation.score_for_each_verdict_blocking(Job("no_such_task", response, "Paris"))
    assert unknown.status == "scorer_error"
    assert "data_source = 'no_such_task': no scorer has this name" in unknown.reason


def test_workers_import_nothing_heavy(isolation):
    result = run(isolation, "modules")
    assert result.reason == ""


def test_workers_are_born_with_math_verify(isolation):
    """Its import takes half a second, which would make the first formula of every new worker late."""
    assert run(isolation, "imported", "math_verify").value == 1


def test_workers_or_their_server_killed_while_idle():
    with IsolatedScorer(OPTIONS) as own:
        pid = int(run(own, "pid").value)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        assert [run(own, "fine").status for _ in range(4)] == ["ok"] * 4
        workers = [worker.pid for worker in own._idle]
        own._server._process.kill()
        for worker in workers:
            wait_for_end(worker)
        assert [run(own, "fine").status for _ in range(4)] == ["ok"] * 4
        assert own.metrics()["server_restarts"] == 1


def test_scorers_that_cannot_be_loaded_stop_the_start():
    with pytest.raises(RuntimeError, match=r"cannot start: ImportError: scorers = 'none.py': no such file"):
        IsolatedScorer(RewardOptions(scorers=("none.py",)))


def test_closed_is_closed_and_hanging_workers_end_with_it():
    own = IsolatedScorer(OPTIONS)
    pid = int(run(own, "pid").value)
    patient = RewardOptions(timeout_s=60)
    jobs = [Job("probe", "loop", "", {}, patient)]
    jobs += [Job("probe", "sleep", 60, {}, patient)] * (MAX_SLOW + OPTIONS.workers)  # one more than run at once

    async def scenario():
        stuck = [asyncio.create_task(own.score_for_each_verdict(job)) for job in jobs]
        await asyncio.sleep(0.2)
        own.close()
        return [score.status for (score,) in await asyncio.gather(*stuck)]

    assert asyncio.run(scenario()) == ["scorer_error"] * len(jobs)
    wait_for_end(pid)
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(own.score_for_each_verdict(Job("probe", "fine", "")))


def test_nothing_outlives_a_killed_trainer():
    program = f"""
import sys, threading, time
from verl_longrl.rewards import RewardOptions
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.scoring import Job
own = IsolatedScorer(RewardOptions(scorers=({MINE!r},), timeout_s=60, workers=1))
job = lambda name: Job("probe", name, "", options=own.options)
print(int(own.score_for_each_verdict_blocking(job("pid"))[0].value), own._server._process.pid, flush=True)
threading.Thread(target=own.score_for_each_verdict_blocking, args=(job("loop"),)).start()
time.sleep(0.2); print("stuck", flush=True); time.sleep(60)
"""
    trainer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    worker, server = map(int, trainer.stdout.readline().split())
    assert trainer.stdout.readline() == "stuck\n"
    trainer.kill()
    trainer.wait()
    wait_for_end(worker)
    wait_for_end(server)


def test_score_async_in_isolation(isolation):
    result = asyncio.run(score_async("probe", "raise", "", {}, options=OPTIONS, isolation=isolation))
    assert result.status == "scorer_error"
    result = asyncio.run(score_async("probe", "fine", "", {"f": lambda: 0}, options=OPTIONS, isolation=isolation))
    assert result.status == "scorer_error"


def test_a_worker_never_has_to_import_numpy_to_read_a_job():
    """verl passes strings as numpy.str_, and unpickling one would import numpy in every new worker."""
    import pickle

    import numpy
    from verl_longrl.rewards.isolation.scorer_pool import _plain

    job = _plain((numpy.str_("longrlvr"), {"ref_chunks": numpy.arange(2), "deep": [{"x": numpy.float32(1)}]}))
    assert b"numpy" not in pickle.dumps(job)
