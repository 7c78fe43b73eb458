"""A start continues from a checkpoint that it may continue from, at its place in the data, with all that waited."""

import json
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf
from verl_longrl.trainer import checkpoints

pytestmark = pytest.mark.engine
BATCH, ITEMS = 2, 60


class Prompts:
    """A data set of which only the numbers matter."""

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, item: int) -> dict:
        import torch

        return {"raw_prompt": f"prompt {item}", "index": item % 7, "item": item, "dummy_tensor": torch.zeros(1)}


@pytest.fixture
def start(tmp_path: Path, monkeypatch):
    """start(**options of trainer) -> a trainer of which all but models, engines and TransferQueue's storage is there,
    after `_load_checkpoint`. Rewards of every third prompt are equal, so it is replaced, by two."""
    import torch
    from torchdata.stateful_dataloader import StatefulDataLoader
    from verl.trainer.ppo.v1 import replay_buffer, trainer_base
    from verl.utils.dataset.rl_dataset import collate_fn
    from verl_longrl.data.sampler import MixOptions, TaskSampler
    from verl_longrl.trainer import early_stop, group_filtering, resumable, shards
    from verl_longrl.trainer import trainer as module
    from verl_longrl.trainer.advantage import AdvantageOptions, Advantages
    from verl_longrl.trainer.health import Health, WatchOptions
    from verl_longrl.trainer.items_in_flight import ItemsInFlight
    from verl_longrl.trainer.metrics_log import MetricsLog
    from verl_longrl.trainer.rollout_progress import RolloutProgress
    from verl_longrl.trainer.step_state import StepState

    stored: dict[str, dict] = {}
    item_of: dict[str, int] = {}

    def clear(partition_id, keys):
        for key in keys:
            stored.pop(key, None)

    def get(keys, partition_id, select_fields):
        if select_fields == ["extra_fields"]:
            return {"extra_fields": [{"reward_extra_info": {}} for _ in keys]}
        rewards = [float(key.split("_")[1]) if item_of[key.split("_")[0]] % 3 else 1.0 for key in keys]
        return {"rm_scores": torch.nested.as_nested_tensor([torch.tensor([r]) for r in rewards], layout=torch.jagged)}

    monkeypatch.setattr(replay_buffer.tq, "kv_list", lambda: {"train": dict(stored)}, raising=False)
    monkeypatch.setattr(replay_buffer.tq, "kv_clear", clear)
    monkeypatch.setattr(replay_buffer.tq, "kv_batch_get", get)

    def save(self):
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
        folder.mkdir(exist_ok=True)
        torch.save(self.train_dataloader.state_dict(), folder / "data.pt")

    def load(self):
        self.global_steps, options = 0, self.config.trainer
        tracker = Path(options.default_local_dir) / checkpoints.TRACKER
        if options.resume_mode == "resume_path":
            folder = Path(options.resume_from_path)
        elif options.resume_mode == "auto" and tracker.is_file():
            folder = tracker.parent / f"global_step_{tracker.read_text()}"
        else:
            return
        self.global_steps = checkpoints.step_of(folder)
        self.train_dataloader.load_state_dict(torch.load(folder / "data.pt", weights_only=False))

    def submit(self, batch):
        assert "item" not in batch, "the agent loops have no use for it"
        for uid in batch["uid"]:
            stored[uid] = {"is_prompt": True, "status": "finished", "global_steps": self.global_steps}
            stored.update({f"{uid}_{session}_0": {} for session in range(2)})
        item_of.update({uid: self.items.item_of[uid] for uid in batch["uid"]})
        self.asked += [self.items.item_of[uid] for uid in batch["uid"]]
        return len(batch)

    monkeypatch.setattr(shards, "in_ranks", lambda workers, function, each: [function(*given) for given in each])
    monkeypatch.setattr(trainer_base.PPOTrainer, "_save_checkpoint", save)
    monkeypatch.setattr(trainer_base.PPOTrainer, "_load_checkpoint", load)
    monkeypatch.setattr(resumable.finite_weights, "not_finite", lambda ranks: None)
    monkeypatch.setattr(early_stop, "all_answer", lambda ranks, within_s: True)
    monkeypatch.setattr(module.LongRLTrainer, "_submit_batch_to_rollout", submit)

    def make(carry_steps: int = 1, **options):
        stored.clear()
        one = object.__new__(module.LongRLTrainer)
        defaults = {"default_local_dir": str(tmp_path / "checkpoints"), "resume_mode": "auto", "resume_from_path": None}
        one.config = OmegaConf.create(
            {"data": {"train_batch_size": BATCH, "gen_batch_size": 1}, "trainer": defaults | options}
        )
        one.config.actor_rollout_ref = {"actor": {"strategy": "fsdp2"}}
        one.longrl = SimpleNamespace(max_filtered_batches=None, checkpoints_to_keep=None, trust_folder=False)
        one.actor_rollout_wg = SimpleNamespace(world_size=2, workers=[None, None])
        one.use_critic, one._dump_futures, one.health = False, [], Health(WatchOptions())
        one.metrics_log = MetricsLog(tmp_path / "metrics.jsonl")
        one.guard = SimpleNamespace(check=lambda statuses: None)
        one.interruptions = SimpleNamespace(reason=lambda at_once: None)
        one.advantages = Advantages(AdvantageOptions(estimator="tmn", decay=0.5))
        one.progress, one._routed, one.step_state = RolloutProgress(), False, StepState()
        one.items, one.asked = ItemsInFlight(), []
        one.train_dataset, one.train_dataloader_it, one.trainer_mode = Prompts(), None, "sync"
        sampler = TaskSampler(["a"] * ITEMS, [1] * ITEMS, MixOptions(balanced=True), seed=3)
        one.train_dataloader = StatefulDataLoader(
            one.train_dataset, batch_size=1, sampler=sampler, collate_fn=collate_fn
        )
        buffer = replay_buffer.ReplayBuffer(
            trainer_mode="sync",
            trainer_config=OmegaConf.create({}),
            max_off_policy_threshold=None,
            max_off_policy_strategy="drop",
            sampler_kwargs=OmegaConf.create({}),
            refill_fn=one._add_prompts_to_generate,
            filter_groups_metric="reward",
            train_batch_size=8,
            gen_batch_size=1,
        )
        one.groups = group_filtering.FilteringReplayBuffer.take_over(
            buffer, lambda groups: None, lambda partition, failed: None, carry_steps
        )
        one._load_checkpoint()
        return one

    return make


def train(one, last: int) -> list[list[int]]:
    """Items asked at each step up to `last`, as `fit` does it."""
    import transfer_queue

    asked = []
    for step in range(one.global_steps + 1, last + 1):
        one.global_steps, one.asked = step, []
        one.on_step_begin()
        one.prepare_step()
        batch, _ = one.groups.sample(step, "train", BATCH)
        trained = {key.split("_")[0] for key in batch.keys}
        transfer_queue.kv_clear(keys=[*trained, *batch.keys], partition_id="train")
        asked.append(one.asked)
    return asked


def waiting_items(one) -> list[int]:
    return one.items.waiting(one.groups.waiting)


def checkpoint(one) -> Path:
    one._save_checkpoint()
    folder, _ = one.step_state.unsealed
    one._seal(one._pop_unsealed())
    return folder


def test_groups_that_waited_are_asked_again_and_the_data_go_on_in_the_same_order(start):
    whole = train(start(), 12)
    waited = 0
    for saved in range(1, 9):
        first = start()
        before = train(first, saved)
        assert before == whole[:saved]
        waiting = waiting_items(first)
        assert len(waiting) == len(first.groups.waiting)
        waited += len(waiting)
        folder = checkpoint(first)

        second = start(resume_mode="resume_path", resume_from_path=str(folder))
        after = train(second, 12)
        assert after[0][: len(waiting)] == waiting[: len(after[0])]
        fresh = [item for step in after for item in step][len(waiting) :]
        order = [item for step in whole[saved:] for item in step]
        assert fresh[: len(order)] == order[: len(fresh)]
        assert len(fresh) > BATCH
        shutil.rmtree(folder)
    assert waited > 4  # so the test is about something


def test_a_stop_saves_what_waited_before_the_step(start):
    from verl_longrl.trainer.items_in_flight import WAITING
    from verl_longrl.trainer.trainer import Interrupted

    one = start()
    while not one.groups.waiting:
        train(one, one.global_steps + 1)
    waiting, step = waiting_items(one), one.global_steps
    one.global_steps += 1
    one.on_step_begin()
    one.prepare_step()
    one.groups.sample(step + 1, "train", BATCH)  # takes some of them, adds others
    with pytest.raises(Interrupted, match=f"global_step_{step} is saved"):
        one._stop(Interrupted, "asked to stop")
    folder = one._checkpoint_root / f"global_step_{step}"
    assert json.loads((folder / WAITING).read_text()) == waiting
    assert start().items.to_resubmit == waiting


def test_what_is_left_to_ask_again_is_saved_with_what_waits(start, tmp_path):
    one = start()
    one._resubmit([5, 7, 11, 13])
    assert train(one, 1) == [[5, 7]]
    assert waiting_items(one) == [11, 13]
    checkpoint(one)
    again = start()
    assert train(again, 2)[0] == [11, 13]
    assert train(again, 3)[0][:2] == train(start(resume_mode="disable"), 1)[0][:2]  # the data's first ones


def test_a_checkpoint_of_other_data_is_named(start):
    one = start()
    train(one, 1)
    folder = checkpoint(one)
    (folder / "waiting.json").write_text(json.dumps([ITEMS]))
    checkpoints.seal_checkpoint(folder, 2)  # with its new content
    with pytest.raises(checkpoints.CheckpointError, match=rf"names item {ITEMS} of the data, which has {ITEMS}"):
        start()


@pytest.mark.parametrize("mode", ["auto", "resume_path"])
def test_both_ways_to_resume_check_and_restore_the_same(start, tmp_path, mode):
    one = start()
    train(one, 2)
    one.advantages.scale.update({"a": 0.25})
    folder = checkpoint(one)
    options = {"resume_mode": mode}
    if mode == "resume_path":  # of another run
        folder = folder.rename(tmp_path / folder.name)
        options["resume_from_path"] = str(folder)
    resumed = start(**options)
    assert resumed.global_steps == 2
    assert resumed.advantages.state_dict() == one.advantages.state_dict()

    (folder / checkpoints.MANIFEST).write_text(json.dumps({"world_size": 8, "files": {}}))
    with pytest.raises(checkpoints.CheckpointError, match="written by 8 trainer ranks and this run has 2"):
        start(**options)
    (folder / checkpoints.MANIFEST).rename(folder / checkpoints.INCOMPLETE)
    if mode == "resume_path":
        with pytest.raises(checkpoints.CheckpointError, match="its writing was interrupted"):
            start(**options)
    else:
        assert start(**options).global_steps == 0


@pytest.mark.parametrize("file", ["data.pt", "waiting.json"])
def test_a_damaged_checkpoint_is_passed_over_and_no_longer_counts(start, tmp_path, capsys, file):
    one = start()
    train(one, 1)
    older = checkpoint(one)
    train(one, 2)
    newest = checkpoint(one)
    damaged = bytearray((newest / file).read_bytes())
    damaged[damaged.index(b"_" if file == "data.pt" else b"[")] ^= 4  # "_sampler_iter_yielded" and its like
    (newest / file).write_bytes(damaged)

    by_name = {"resume_mode": "resume_path", "resume_from_path": str(newest)}
    with pytest.raises(checkpoints.CheckpointError, match=f"{file} is damaged"):
        start(default_local_dir=str(tmp_path / "other"), **by_name)
    assert checkpoints.find_damage(newest) is None  # another run's is left as it is
    again = start()
    assert again.global_steps == 1
    assert f"resume: {newest} is not used: {file} is damaged: " in capsys.readouterr().out
    assert (older.parent / checkpoints.TRACKER).read_text() == "1"
    assert start().global_steps == 1
    assert "an earlier start found it damaged" in capsys.readouterr().out
    train(again, 2)
    assert checkpoint(again) == newest
    assert checkpoints.find_damage(newest) is None


def test_metrics_of_steps_done_again_go_in_little_memory(start, tmp_path):
    one = start()
    metrics = dict.fromkeys((f"metric/{number}" for number in range(200)), 0.123456789)
    with one.metrics_log.path.open("w") as handle:
        for step in range(1, 2001):
            handle.write(json.dumps({"split": "train", "step": step, **metrics}) + "\n")
        handle.write('{"split": "cut')
    tracemalloc.start()
    try:
        one.metrics_log.drop_after(1500)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    steps = [json.loads(line)["step"] for line in one.metrics_log.path.read_text().splitlines()]
    assert np.array_equal(steps, np.arange(1, 1501))
