"""What group filtering throws away is seen: counted, and past a limit the end of the run."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

pytestmark = pytest.mark.engine


def parts(status: str = "ok", reason: str = "") -> dict:
    return {"status": status, "reason": reason, "score": 0.0}


@pytest.fixture
def trainer(monkeypatch):
    """A trainer of which only the bookkeeping of filtered groups exists: two prompts a batch."""
    from verl_longrl.rewards.guard import FailureGuard
    from verl_longrl.trainer import trainer as module

    one = object.__new__(module.LongRLTrainer)
    one.config = OmegaConf.create({"data": {"train_batch_size": 2}, "trainer": {"default_local_dir": "none"}})
    one.longrl = SimpleNamespace(max_filtered_batches=3)
    one.guard, one.global_steps, one._filtered = FailureGuard(0.25), 1, []
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
    """Against upstream's class: the groups it filters reach the callback before they are cleared."""
    from verl.trainer.ppo.v1 import replay_buffer as upstream
    from verl_longrl.trainer import replay

    stored = {"a_0_0": {"score": 1.0}, "a_1_0": {"score": 1.0}, "b_0_0": {"score": 2.0}}
    cleared, seen = [], []
    monkeypatch.setattr(upstream.tq, "kv_clear", lambda partition_id, keys: cleared.extend(keys))
    monkeypatch.setattr(
        replay.tq,
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
    watched = replay.WatchedReplayBuffer.watch(buffer, seen.append)
    watched.partitions["train"] = {key: {} for key in stored}
    watched._evict_terminal_groups(1, "train", (set(), {"a"}, set(), upstream.Counter({1.0: 1})))
    assert seen == [[[{"score": 1.0}, {"score": 1.0}]]]
    assert {"a", "a_0_0", "a_1_0"} == set(cleared)
    assert list(watched.partitions["train"]) == ["b_0_0"]


def test_a_custom_sampler_is_refused():
    from verl_longrl.trainer.replay import WatchedReplayBuffer

    with pytest.raises(TypeError, match="custom_sampler"):
        WatchedReplayBuffer.watch(object(), print)  # type: ignore[arg-type]
