"""The watchdog's line names the progress of a step's rollouts and the slowest prompts."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
from verl_longrl.trainer import rollout_progress
from verl_longrl.trainer.rollout_progress import RolloutProgress

pytestmark = pytest.mark.engine


def test_the_slowest_prompts_and_what_they_wait_for(monkeypatch):
    now = 100.0
    monkeypatch.setattr(rollout_progress, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(rollout_progress.ray, "get", lambda requests, timeout: requests)
    progress = RolloutProgress()
    assert progress.describe_pending(None) == ""
    progress.add(["a", "b", "c", "d"], [11, 12, 13, 14])
    buffer = SimpleNamespace(
        running_keys={"train": {"c"}},
        pending_keys={"train": {"d"}},
        finished_keys={"train": {"a", "b"}},
        partitions=defaultdict(dict, train={f"{uid}_{n}_0": {} for uid in "ab" for n in range(4)}),
    )
    progress.update(buffer, "train")
    now = 1300.0
    line = progress.describe_pending(None)
    assert line.startswith("prompts 2/4 done, 8 rollouts received; slowest prompts (dataset rows): ")
    assert {"13 (1,200 s)", "14 (1,200 s)"} == set(line.partition("rows): ")[2].split(", ", 1))

    def router(*requests):
        return SimpleNamespace(oldest_requests=SimpleNamespace(remote=lambda count: requests))

    assert "oldest requests: r1 for 9 s (prompt of 65,112 tokens)" in progress.describe_pending(
        router(("r1", 9, 65112))
    )
    assert progress.describe_pending(router()).endswith("no generation request in flight: waiting for rewards")
