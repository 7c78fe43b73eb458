"""Real TransferQueue: its controller is slow; a part of it is dead."""

import asyncio

import psutil
import pytest
import ray
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from transfer_queue import interface
from verl_longrl.trainer import transfer_queue_liveness

pytestmark = pytest.mark.engine


@pytest.fixture
def queue(monkeypatch):
    monkeypatch.setattr(transfer_queue_liveness, "POLL_EVERY_S", 0.2)
    transfer_queue_liveness.register()
    ray.init(address="local", num_cpus=8, include_dashboard=False, object_store_memory=100_000_000)
    tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    yield
    tq.close()
    ray.shutdown()


def test_an_answer_that_takes_long_is_waited_for(queue):
    client = interface._TQ_CLIENT

    async def slow() -> str:
        await asyncio.sleep(0.7)
        return "answered"

    async def broken() -> None:
        raise TimeoutError("of its own")

    assert client._run_coroutine(slow()) == "answered"
    with pytest.raises(TimeoutError, match="of its own"):
        client._run_coroutine(broken())


@pytest.mark.parametrize("part", transfer_queue_liveness.ACTOR_CLASSES)
def test_what_waits_for_a_dead_part_ends(queue, part):
    tq.kv_put("a", "train", {"number": torch.tensor([1])}, {})
    (process,) = (p for p in psutil.Process().children(recursive=True) if part in " ".join(p.cmdline()))
    process.kill()
    with pytest.raises(ConnectionError, match=f"{part} died"):
        tq.kv_batch_get(["a"], "train")
