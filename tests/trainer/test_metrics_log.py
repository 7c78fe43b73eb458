"""metrics.jsonl is read under the present names, whichever version wrote it."""

import json
from pathlib import Path

from verl_longrl.trainer.metrics_log import FORMER_NAMES, MetricsLog, iterate_metrics, present_name


def test_former_names_are_read_as_the_present_ones(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    former = {"group/no_signal": 0.5, "rollout/prefilled": 0.25, "rollout/prompts_stored": 0.125}
    row = {
        "split": "train",
        "step": 1,
        **former,
        "sampled/score": 1.0,
        "sampled/longrlvr/score": 2.0,
        "reward/score": 3,
    }
    path.write_text(json.dumps(row) + "\n")
    log = MetricsLog(path)
    log.write("train", 2, {"group/zero_variance_frac": 0.75, "name": "not a number"})
    first, second = iterate_metrics(path, ("split", "step"))
    assert first == {
        "split": "train",
        "step": 1,
        "group/zero_variance_frac": 0.5,
        "rollout/prefill_fraction": 0.25,
        "rollout/prompt_storage_fraction": 0.125,
        "reward_before_filter/score": 1.0,
        "reward_before_filter/longrlvr/score": 2.0,
        "reward/score": 3,
    }
    assert second["group/zero_variance_frac"] == 0.75
    assert "name" not in second
    assert log.last_training_steps(1) == [second]


def test_no_present_name_is_a_former_one():
    assert all(present_name(name) == name for name in FORMER_NAMES.values())
