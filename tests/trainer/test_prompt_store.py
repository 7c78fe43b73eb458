"""A prompt is stored once and read whole: real TransferQueue, rows as verl's own agent loops put them."""

import asyncio
import pickle
import random

import numpy as np
import pytest
import ray
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.experimental.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils import transferqueue_utils
from verl_longrl.rollout.agent_loops import AgentLoopWorkerOncePerPrompt
from verl_longrl.trainer.group_filtering import FilteringReplayBuffer
from verl_longrl.trainer.prompt_store import FIRST_ROW, SHARED, prompt_storage_fraction

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
UPSTREAM = AgentLoopWorkerTQ.__ray_metadata__.modified_class
OURS = AgentLoopWorkerOncePerPrompt.__ray_metadata__.modified_class


@pytest.fixture(scope="module", autouse=True)
def transfer_queue():
    ray.init(address="local", num_cpus=8, include_dashboard=False, object_store_memory=100_000_000)
    tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 3}}}))
    yield
    tq.close()
    ray.shutdown()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path):
    yield
    for partition in ("train", "val"):
        if keys := list((tq.kv_list(partition) or {}).get(partition, {})):
            tq.kv_clear(keys=keys, partition_id=partition)
    assert not stored(tmp_path)


def rollouts(worker_class, uid, *, n=4, prompt=2000, fails=(), other_prompts=(), validate=False, positions=1):
    """The rows of a prompt: all of verl's agent loop but the generation, whose responses depend on the numbers of
    prompt and rollout alone."""
    number = int(uid.strip("abcdefghijklmnopqrstuvwxyz"))

    class Worker(worker_class):
        def __init__(self):
            self.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"n": n, "val_kwargs": {"n": n}}}})
            self.processor, self.reward_loop_worker_handles, self.distillation_enabled = None, None, False

        def _compute_position_ids(self, input_ids, *others):
            found = super()._compute_position_ids(input_ids, *others)
            return found if positions == 1 else found.unsqueeze(1).expand(-1, positions, -1)

        async def _run_agent_loop(self, sampling, trajectory, *, trace, agent_name, session_id, **row):
            await asyncio.sleep(0)
            if session_id in fails:
                raise RuntimeError("no response")
            tokens = random.Random(number)
            prompt_ids = [tokens.randrange(1000) for _ in range(prompt)]
            own = random.Random(f"{number} {session_id}")
            if session_id in other_prompts:
                prompt_ids[-1] += 1
            response = [own.randrange(1000) for _ in range(own.randrange(1, 20))]
            output = AgentLoopOutput(
                prompt_ids=prompt_ids,
                response_ids=response,
                response_mask=[1] * len(response),
                response_logprobs=[-0.5] * len(response),
                reward_score=own.random(),
                metrics=AgentLoopMetrics(),
                extra_fields={"reward_extra_info": {"score": own.random()}, "min_global_steps": 1},
            )
            await self._agent_loop_postprocess(output, trajectory["validate"], session_id=session_id, **row)

    row = {"uid": uid, "global_steps": 1, "agent_name": "single_turn_agent", "index": number}
    row |= {"raw_prompt": [{"role": "user", "content": "word " * prompt}], "data_source": "longrlvr"}
    row |= {"extra_info": {"index": number, "ref_chunks_text": ["evidence " * 50]}}
    partition = "val" if validate else "train"
    tq.kv_put(uid, partition, tag={"is_prompt": True, "global_steps": 1, "status": "pending"})
    asyncio.run(Worker()._run_prompt(row, {}, {"validate": validate}))
    items = tq.kv_list(partition)[partition]
    return [key for key in sorted(items) if key.startswith(f"{uid}_")]


def stored(folder):
    """Field -> row -> value, of all that the storage units hold."""
    asyncio.run(tq.get_client().storage_manager.save_checkpoint(str(folder)))
    found = {}
    for file in folder.glob("simple_storage/*.pkl"):
        for name, values in pickle.loads(file.read_bytes())["field_data"].items():
            found |= {name: found.get(name, {}) | values} if values else {}
        file.unlink()
    return found


def stored_bytes(folder):
    asyncio.run(tq.get_client().storage_manager.save_checkpoint(str(folder)))
    return sum(file.stat().st_size for file in folder.glob("simple_storage/*.pkl"))


def same(ours, upstream):
    assert list(ours.keys()) == list(upstream.keys())
    assert ours.batch_size == upstream.batch_size
    for name in upstream.keys():  # noqa: SIM118
        a, b = ours[name], upstream[name]
        if not isinstance(b, torch.Tensor):
            assert name == "uid" or list(a) == list(b), name
            continue
        assert (a.dtype, a.layout, a.is_nested) == (b.dtype, b.layout, b.is_nested), name
        assert all(torch.equal(x, y) for x, y in zip(a.unbind(), b.unbind(), strict=True)), name


def read(keys, fields=None, partition="train"):
    """As a trainer's rank does."""
    meta = tq.KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id=partition, fields=fields)
    return transferqueue_utils._meta_to_realdata(meta)


def tags(keys, partition="train"):
    items = tq.kv_list(partition)[partition]
    return [items[key] for key in keys]


def test_readers_get_what_upstream_puts(tmp_path):
    theirs = rollouts(UPSTREAM, "up1") + rollouts(UPSTREAM, "up2")
    ours = rollouts(OURS, "our1") + rollouts(OURS, "our2")
    assert prompt_storage_fraction(tags(theirs)) == 1
    assert prompt_storage_fraction(tags(ours)) == 1 / 4
    held = stored(tmp_path)
    for name in SHARED:
        assert sum(isinstance(value, dict) and FIRST_ROW in value for value in held[name].values()) == 6, name
    order = np.random.default_rng(0).permutation(8)
    for chosen in (order, order[:3], [1], [7, 2], [3, 2, 1, 0]):  # with and without the rows that have the prompts
        for fields in (None, ["input_ids"], ["prompts", "responses"], ["responses", "rm_scores"], ["raw_prompt"]):
            keys = [[side[i] for i in chosen] for side in (ours, theirs)]
            same(read(keys[0], fields), read(keys[1], fields))
            same(
                tq.kv_batch_get(keys[0], "train", select_fields=fields),
                tq.kv_batch_get(keys[1], "train", select_fields=fields),
            )


def test_what_is_stored_does_not_grow_with_the_rollouts(tmp_path):
    size = {}
    for worker_class in (UPSTREAM, OURS):
        for n in (1, 8):
            keys = rollouts(worker_class, "many3", n=n, prompt=20_000)
            size[worker_class, n] = stored_bytes(tmp_path)
            tq.kv_clear(keys=[*keys, "many3"], partition_id="train")
    assert size[UPSTREAM, 1] > 24 * 20_000
    assert size[UPSTREAM, 8] > 7 * size[UPSTREAM, 1]
    assert size[OURS, 1] < size[UPSTREAM, 1] + 2000
    assert size[OURS, 8] < size[OURS, 1] + 8 * 20_000 * 0.5  # with verl's way it would be 7 * 24 * 20,000 more


def test_rows_that_differ_keep_what_is_their_own(tmp_path):
    theirs = rollouts(UPSTREAM, "up4", other_prompts=(1, 2), positions=3)
    ours = rollouts(OURS, "our4", other_prompts=(1, 2), positions=3)
    same(read(ours), read(theirs))
    held = stored(tmp_path)
    assert sum(isinstance(value, dict) for value in held["prompts"].values()) in (1, 2)  # of 4, by who was first
    assert not any(isinstance(value, dict) for value in held["position_ids"].values())


def test_a_group_with_failed_rollouts_is_whole():
    theirs, ours = (rollouts(side, uid, fails=(0, 2)) for side, uid in ((UPSTREAM, "up5"), (OURS, "our5")))
    assert [key.split("_")[1] for key in ours] == ["1", "3"]
    assert tags(["our5"])[0]["status"] == "failure"
    same(read(ours), read(theirs))


def test_a_first_row_that_could_not_be_put_is_none(monkeypatch):
    """Then another one is the first."""
    from verl_longrl.trainer.prompt_store import PromptStore

    put, puts = PromptStore.__mro__[1].put_data, []

    async def first_fails(self, data, metadata, data_parser=None):
        puts.append(metadata.size)
        if len(puts) == 1:
            raise RuntimeError("lost connection")
        await put(self, data, metadata, data_parser)

    monkeypatch.setattr(PromptStore.__mro__[1], "put_data", first_fails)
    ours = rollouts(OURS, "our6", n=3)
    monkeypatch.undo()
    whole = [key for key in ours if FIRST_ROW in tags([key])[0]]
    assert len(whole) == 2
    same(read(whole), read([key for key in rollouts(UPSTREAM, "up6", n=3) if key[3:] in {k[4:] for k in whole}]))


def test_padding_is_made_of_any_row():
    ours = sorted(rollouts(OURS, "our7", n=3), reverse=True)
    meta = tq.KVBatchMeta(keys=ours, tags=tags(ours), partition_id="train")
    padded = upsample_batch_to_divisible_size(meta, 4, eos_token_id=0)
    rows = read(padded.keys)
    assert rows["input_ids"].offsets().diff().tolist()[-1] == 128
    assert rows["input_ids"].offsets().diff().tolist()[:3] == [tag["seq_len"] for tag in padded.tags[:3]]
    assert list(rows["raw_prompt"])[-1] == next(iter(rows["raw_prompt"]))


def test_what_workers_add_is_the_rows_own():
    ours = rollouts(OURS, "our8")
    lengths = read(ours)["responses"].offsets().diff().tolist()
    values = [torch.full((length,), float(i)) for i, length in enumerate(lengths)]
    nested = torch.nested.as_nested_tensor(values, layout=torch.jagged)
    tq.kv_batch_put(ours, "train", fields=TensorDict({"old_log_probs": nested}, batch_size=4))
    found = read(ours)
    assert all(torch.equal(a, b) for a, b in zip(found["old_log_probs"].unbind(), values, strict=True))
    assert found["input_ids"].offsets().diff().tolist() == [tag["seq_len"] for tag in tags(ours)]


@pytest.mark.parametrize("carry_steps", [0, 1])
def test_filtered_and_left_over_groups_leave_nothing(tmp_path, carry_steps):
    """A step asks for one group; of three one is filtered out, one trained on, and one is left over."""
    buffer = ReplayBuffer(
        trainer_mode="sync",
        trainer_config=OmegaConf.create({}),
        max_off_policy_threshold=None,
        max_off_policy_strategy="drop",
        sampler_kwargs=OmegaConf.create({}),
        refill_fn=lambda number: None,
        filter_groups_metric="reward",
        train_batch_size=1,
        gen_batch_size=1,
    )
    filtered = []
    groups = FilteringReplayBuffer.take_over(buffer, filtered.extend, lambda partition, failed: None, carry_steps)
    equal = rollouts(OURS, "equal9", n=2)
    scores = {"rm_scores": torch.nested.as_nested_tensor([torch.ones(1), torch.ones(1)], layout=torch.jagged)}
    tq.kv_batch_put(equal, "train", fields=TensorDict(scores, batch_size=2))
    kept = {uid: rollouts(OURS, uid, n=2) for uid in ("kept10", "kept11")}
    batch, _ = groups.sample(1, "train", 1)
    (trained,) = {key.split("_")[0] for key in batch.keys}
    assert batch.keys == kept.pop(trained)
    assert len(filtered) == 1
    read(batch.keys)
    tq.kv_clear(keys=batch.keys, partition_id="train")  # as verl ends a step
    if carry_steps:
        (waiting,) = kept.values()
        assert read(waiting)["input_ids"].offsets().diff().tolist() == [tag["seq_len"] for tag in tags(waiting)]
        batch, _ = groups.sample(2, "train", 1)
        assert batch.keys == waiting
        tq.kv_clear(keys=batch.keys, partition_id="train")
    assert not stored(tmp_path)
    assert not (tq.kv_list("train") or {}).get("train")


def test_rows_of_a_validation():
    keys = rollouts(OURS, "val12", n=2, validate=True)
    same(read(keys, partition="val"), read(rollouts(UPSTREAM, "wal12", n=2, validate=True), partition="val"))
    assert not tq.get_client().storage_manager._prompts


def test_another_process_reads_the_same():
    keys = rollouts(OURS, "our13")

    @ray.remote(num_cpus=0)
    def rank():
        import verl  # noqa: F401  its plugin is all that a rank has of ours

        tq.init()
        return [row.tolist() for row in tq.kv_batch_get(keys, "train")["input_ids"].unbind()]

    assert ray.get(rank.remote()) == [row.tolist() for row in read(keys)["input_ids"].unbind()]
