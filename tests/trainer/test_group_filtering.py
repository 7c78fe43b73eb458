"""Groups that the filter replaces are counted, and too many of them end the run."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

pytestmark = pytest.mark.engine


def parts(status: str = "ok", reason: str = "") -> dict:
    return {"status": status, "reason": reason, "score": 0.0}


def ignore_poll(partition_id: str, failed: int) -> None:
    """No interest in the progress of the rollouts."""


@pytest.fixture
def trainer(monkeypatch):
    """A trainer of which only the bookkeeping of filtered groups exists: two prompts a batch."""
    from verl_longrl.rewards.failure_guard import FailureGuard
    from verl_longrl.trainer import trainer as module
    from verl_longrl.trainer.step_state import StepState

    one = object.__new__(module.LongRLTrainer)
    one.config = OmegaConf.create({"data": {"train_batch_size": 2}, "trainer": {"default_local_dir": "none"}})
    one.longrl = SimpleNamespace(max_filtered_batches=3)
    one.guard, one.global_steps, one.step_state = FailureGuard(0.25), 1, StepState()
    return one


def test_filtered_groups_without_end_stop_the_run(trainer, capsys):
    from verl_longrl.trainer.trainer import NoSignal

    group = [parts(), parts()]
    trainer._on_filtered([group])
    trainer._on_filtered([group] * 4)
    assert "longrl: step 1: 5 groups with equal rewards replaced so far" in capsys.readouterr().out
    with pytest.raises(NoSignal, match=r"6 groups \(3 batches\).* too easy or too hard"):
        trainer._on_filtered([group])


def test_failures_hidden_in_filtered_groups_stop_the_run(trainer):
    from verl_longrl.trainer.trainer import TooManyFailures

    format_errors = [parts("format_error", f"odd {i}") for i in range(5)]
    with pytest.raises(TooManyFailures, match=r"Most frequent: judge_error: refused \(2 times\)\. no step was"):
        trainer._on_filtered([format_errors, [parts("judge_error", "refused"), parts("judge_error", "refused")]])


def test_upstream_hands_over_what_it_evicts(monkeypatch):
    """Against verl's class: the groups it filters reach the callback before they are cleared."""
    from verl.trainer.ppo.v1 import replay_buffer as upstream
    from verl_longrl.trainer import group_filtering

    stored = {"a_0_0": {"score": 1.0}, "a_1_0": {"score": 1.0}, "b_0_0": {"score": 2.0}}
    cleared, seen = [], []
    monkeypatch.setattr(upstream.tq, "kv_clear", lambda partition_id, keys: cleared.extend(keys))
    monkeypatch.setattr(
        upstream.tq,
        "kv_batch_get",
        lambda keys, partition_id, select_fields: {"extra_fields": [{"reward_extra_info": stored[k]} for k in keys]},
    )
    buffer = upstream.ReplayBuffer(
        trainer_mode="sync",
        trainer_config=OmegaConf.create({}),
        max_off_policy_threshold=None,
        max_off_policy_strategy="drop",
        sampler_kwargs=OmegaConf.create({}),
    )
    watched = group_filtering.FilteringReplayBuffer.take_over(buffer, seen.append, ignore_poll)
    watched.partitions["train"] = {key: {} for key in stored}
    watched._evict_terminal_groups(1, "train", (set(), {"a"}, set(), upstream.Counter({1.0: 1})))
    assert seen == [[[{"score": 1.0}, {"score": 1.0}]]]
    assert {"a", "a_0_0", "a_1_0"} == set(cleared)
    assert list(watched.partitions["train"]) == ["b_0_0"]


def test_rollouts_that_will_not_be_trained_on_are_handed_over_before_they_are_cleared(monkeypatch):
    from verl.trainer.ppo.v1 import replay_buffer as upstream
    from verl_longrl.trainer import group_filtering

    events: list[tuple] = []
    monkeypatch.setattr(upstream.tq, "kv_clear", lambda partition_id, keys: events.append(("cleared", sorted(keys))))
    monkeypatch.setattr(group_filtering, "fetch_scores", lambda partition_id, keys: [{} for _ in keys])
    sampled = SimpleNamespace(keys=["v_0_0"], tags=[{"min_global_steps": 4}])
    monkeypatch.setattr(upstream.ReplayBuffer, "sample", lambda self, *args: (sampled, {"a": 1}))
    buffer = upstream.ReplayBuffer("sync", OmegaConf.create({}), None, "drop", OmegaConf.create({}))
    watched = group_filtering.FilteringReplayBuffer.take_over(
        buffer, lambda groups: None, ignore_poll, on_untrained=lambda split, tags: events.append((split, tags))
    )
    watched.partitions["train"] = {"a_0_0": {"prompt_len": 7}, "b_0_0": {}}
    watched._evict_terminal_groups(1, "train", (set(), {"a"}, set(), upstream.Counter({1.0: 1})))
    assert events == [("filtered", {"a_0_0": {"prompt_len": 7}}), ("cleared", ["a", "a_0_0"])]
    assert watched.sample(4, "val", 1) == (sampled, {"a": 1})
    assert events[2:] == [("val", {"v_0_0": {"min_global_steps": 4}})]


def test_a_custom_sampler_is_refused():
    from verl_longrl.trainer.group_filtering import FilteringReplayBuffer

    with pytest.raises(TypeError, match="custom_sampler"):
        FilteringReplayBuffer.take_over(object(), print, ignore_poll)  # type: ignore[arg-type]


@pytest.fixture
def queue(monkeypatch):
    """TransferQueue's keys with their tags, in memory; every group here has rewards that differ."""
    from verl.trainer.ppo.v1 import replay_buffer as upstream

    stored: dict[str, dict] = {}

    def clear(partition_id, keys):
        for key in keys:
            stored.pop(key, None)

    def get(keys, partition_id, select_fields):
        import torch

        rewards = [torch.tensor([float(key.split("_")[1])]) for key in keys]
        return {"rm_scores": torch.nested.as_nested_tensor(rewards, layout=torch.jagged)}

    monkeypatch.setattr(upstream.tq, "kv_list", lambda: {"train": dict(stored)}, raising=False)
    monkeypatch.setattr(upstream.tq, "kv_clear", clear)
    monkeypatch.setattr(upstream.tq, "kv_batch_get", get)

    def finished(step, *uids):
        for uid in uids:
            stored[uid] = {"is_prompt": True, "status": "finished", "global_steps": step}
            stored.update({f"{uid}_{session}_0": {} for session in range(2)})

    buffer = upstream.ReplayBuffer(
        trainer_mode="sync",
        trainer_config=OmegaConf.create({}),
        max_off_policy_threshold=None,
        max_off_policy_strategy="drop",
        sampler_kwargs=OmegaConf.create({}),
        refill_fn=lambda count: None,
        filter_groups_metric="reward",
        train_batch_size=2,
        gen_batch_size=1,
    )
    return buffer, finished, stored


def uids(batch) -> list[str]:
    return sorted({key.split("_")[0] for key in batch.keys})


def test_surplus_groups_wait_for_the_next_step_and_no_longer(queue):
    from verl_longrl.trainer.group_filtering import DISCARDED, FilteringReplayBuffer

    buffer, finished, stored = queue
    watched = FilteringReplayBuffer.take_over(buffer, lambda groups: None, ignore_poll, carry_steps=1)
    finished(1, "a", "b", "c", "d", "e")
    batch, metrics = watched.sample(1, "train", 2)
    assert len(uids(batch)) == 2
    assert (len(watched.waiting), metrics[DISCARDED], metrics["group/carried_over"]) == (3, 0, 0)

    batch, metrics = watched.sample(2, "train", 2)  # nothing new was needed
    assert len(uids(batch)) == 2
    assert set(uids(batch)) <= {"a", "b", "c", "d", "e"}
    assert (len(watched.waiting), metrics[DISCARDED], metrics["group/carried_over"]) == (
        0,
        1,
        3,
    )  # the last one is too old
    assert not any(key in stored for key in "abcde")

    finished(3, "f", "g", "h")
    finished(2, "old")
    batch, metrics = watched.sample(3, "train", 2)
    assert "old" in uids(batch)  # the oldest first
    assert len(watched.waiting) == 2


def test_without_carrying_surplus_groups_go_as_upstream_has_it(queue):
    from verl_longrl.trainer.group_filtering import DISCARDED, FilteringReplayBuffer

    buffer, finished, stored = queue
    watched = FilteringReplayBuffer.take_over(buffer, lambda groups: None, ignore_poll)
    finished(1, "a", "b", "c")
    batch, metrics = watched.sample(1, "train", 2)
    assert (len(watched.waiting), metrics[DISCARDED]) == (0, 1)
    assert {key.split("_")[0] for key in stored} == set(uids(batch))  # verl clears the batch after training


@pytest.mark.parametrize("finished_after_s", [0.3, 3.0, 30.0, 3000.0])
def test_a_finished_batch_is_seen_soon_and_polls_are_few(queue, monkeypatch, finished_after_s: float):
    """Late by a tenth of the wait at most, half a second in long ones; polls no closer than 0.1 s."""
    from verl.trainer.ppo.v1 import replay_buffer as upstream
    from verl_longrl.trainer import group_filtering

    buffer, finished, _ = queue
    watched = group_filtering.FilteringReplayBuffer.take_over(buffer, lambda groups: None, ignore_poll)
    now, polls = 0.0, 0

    def sleep(seconds: float) -> None:
        nonlocal now, polls
        now, polls = now + seconds, polls + 1
        if now >= finished_after_s:
            finished(1, "a", "b")

    monkeypatch.setattr(group_filtering, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(upstream, "time", SimpleNamespace(time=lambda: now, sleep=sleep))
    batch, _ = watched.sample(1, "train", 2)
    assert uids(batch) == ["a", "b"]
    assert now - finished_after_s <= max(0.1, min(0.1 * finished_after_s, 0.5)) + 1e-9
    assert polls <= 10 + 20 + 2 * finished_after_s


def test_a_step_asks_for_so_many_fewer(monkeypatch):
    from verl.trainer.ppo.v1 import trainer_base
    from verl_longrl.trainer import trainer as module

    asked = []
    one = object.__new__(module.LongRLTrainer)
    one.config = OmegaConf.create({"data": {"train_batch_size": 4}})
    monkeypatch.setattr(module.LongRLTrainer, "_add_prompts_to_generate", lambda self, count: asked.append(count))
    monkeypatch.setattr(trainer_base.PPOTrainer, "prepare_step", lambda self: asked.append("a batch") or {})
    for waiting in ("", "a", "abcd", "abcdefg"):
        one.groups = SimpleNamespace(waiting=set(waiting))
        one.prepare_step()
    assert asked == ["a batch", 3]
