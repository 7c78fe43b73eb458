"""Rows of every task as GoLongRL's release has them load, validate and train for two steps, mixed, as they are."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import released_golongrl
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.rewards.tasks.golongrl import TASKS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_the_released_rows_train(run, tmp_path):
    released = released_golongrl.rows()
    pq.write_table(pa.Table.from_pylist(released), tmp_path / "golongrl.parquet")
    process = run.start_script(
        tmp_path / "golongrl.parquet",
        tmp_path / "golongrl.parquet",
        "method=golongrl",
        "trainer.n_gpus_per_node=1",
        "algorithm.filter_groups.enable=false",  # this model never answers, so every group would be dropped
        "data.train_batch_size=20",
        "actor_rollout_ref.actor.ppo_mini_batch_size=20",
        "trainer.total_training_steps=2",
        "trainer.save_freq=-1",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
        "longrl.export=false",
    )
    assert run.finish(process) == 0, run.console[-3000:]
    steps = run.rows("train")
    assert [row["step"] for row in steps] == [1, 2]
    seen = set()
    for row in steps:
        rollouts = read_jsonl(run.output / "rollouts" / "train" / f"{row['step']}.jsonl")
        assert len(rollouts) == 20 * 4
        assert {rollout["status"] for rollout in rollouts} <= {"ok", "format_error", "truncated"}  # no scorer failed
        tasks = {rollout["task"] for rollout in rollouts}
        assert {key for task in tasks for key in (f"reward/{task}/score", f"task/{task}/scale")} <= set(row)
        seen |= tasks
    assert seen == set(TASKS)  # mixed evenly, the rare ones too, which have two rows of 58
