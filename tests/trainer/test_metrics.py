"""Reward parts become means over all rows and per task; groups without signal are counted."""

import pytest
from verl_longrl.trainer.metrics import filtered_metrics, group_metrics, host_memory, reward_metrics, task_metrics


def test_means_over_all_and_per_task():
    scores = [{"recall": 1.0, "status": "ok"}, {"recall": 0.0, "status": "ok"}, {"recall": 0.5, "status": "timeout"}]
    metrics = reward_metrics(["a", "a", "b"], scores)
    assert metrics == {"reward/recall": 0.5, "reward/a/recall": 0.5, "reward/b/recall": 0.5}
    assert "val/b/recall" in reward_metrics(["a", "a", "b"], scores, prefix="val")


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="shorter"):
        reward_metrics(["a"], [])


def test_groups_without_signal():
    metrics = group_metrics(["u", "u", "v", "v"], [1.0, 1.0, 0.0, 1.0])
    assert metrics == {"group/count": 2.0, "group/zero_variance_frac": 0.5}


def test_filtered_groups_are_told_apart():
    groups = [[{"answer": 1.0}, {"answer": 1.0}], [{"answer": 0.0}] * 2, [{"answer": 0.0}] * 2, [{"answer": 0.5}] * 2]
    assert filtered_metrics(groups) == {
        "group/filtered": 4.0,
        "group/filtered_all_right": 1.0,
        "group/filtered_all_wrong": 2.0,
    }
    assert set(filtered_metrics([]).values()) == {0.0}


def test_what_each_task_contributes():
    tasks, uids = ["a"] * 4 + ["b"] * 3, ["p", "p", "q", "q", "r", "r", "s"]
    filtered = [[{"task": "b", "answer": 1.0}] * 2, [{"task": "c", "answer": 0.0}] * 2]
    metrics = task_metrics(tasks, uids, [0.0, 1.0, 0.5, 0.5, 0.0, 2.0, 3.0], filtered)
    of_a = {name.removeprefix("task/a/"): value for name, value in metrics.items() if name.startswith("task/a/")}
    half = 0.5**0.5
    assert of_a == pytest.approx(
        {
            **{"prompts": 2, "rollouts": 4, "reward_mean": 0.5, "reward_std": 0.125**0.5, "prompt_std": half / 2},
            **{"scale": 0.5, "signal_share": 1 / 3, "prompt_share": 0.5},
            **{"filtered": 0, "filtered_all_right": 0, "filtered_all_wrong": 0},
        }
    )
    assert metrics["task/b/signal_share"] == pytest.approx(2 / 3)
    assert metrics["task/b/filtered_all_right"] == metrics["task/c/filtered_all_wrong"] == 1


def test_host_memory_is_in_gib_and_only_of_known_roles():
    memory = host_memory()
    assert all(0 <= gib < 4096 for gib in memory.values())
