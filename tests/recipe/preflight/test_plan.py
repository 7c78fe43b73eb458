"""Rows, steps and checkpoints as verl's trainer will count them; what it would trip over is refused."""

from types import SimpleNamespace

import pytest

from recipe.longrl.preflight import disk, plan

pytestmark = pytest.mark.engine


@pytest.fixture
def planned(configure):
    """planned(rows, overrides) -> status and detail of the plan for so many training rows."""

    def run(rows: int, *overrides: str) -> tuple[str, str]:
        config = configure(*overrides)
        (line,) = plan.check_plan(config, longrl_of(config), {"train_files": rows, "val_files": 5})
        return line.status, line.detail

    return run


def longrl_of(config):
    from verl_longrl.config import LongRLConfig

    from recipe.longrl import settings

    return LongRLConfig.from_dict(settings.plain(config.longrl))


BY_EPOCHS = ("trainer.total_training_steps=null", "trainer.total_epochs=5", "data.train_batch_size=32")


def test_fewer_rows_than_a_batch(check):
    status, detail = check("data.train_batch_size=16")["plan"]
    assert status == "FAIL"
    assert (
        "data.train_batch_size = 16: only 8 training rows, fewer than one batch. Fix: add rows, or lower it" in detail
    )


def test_rows_count_after_filtering(check):
    found = check("data.max_prompt_length=120", "data.filter_overlong_prompts=true")
    assert "of them are dropped, longer than data.max_prompt_length = 120" in found["data.train_files"][1]
    assert found["plan"][0] == "FAIL"
    assert "fewer than one batch" in found["plan"][1]


def test_no_row_is_left(check):
    found = check("data.max_prompt_length=2", "data.filter_overlong_prompts=true")
    assert found["data.val_files"][0] == "FAIL"
    assert "data.max_prompt_length = 2: no prompt is so short" in found["data.val_files"][1]


def test_at_most_so_many_samples(check):
    assert "only 5 training rows, fewer than one batch" in check("data.train_max_samples=5")["plan"][1]


def test_a_published_run(planned):
    status, detail = planned(46000, *BY_EPOCHS, "trainer.save_freq=10", "trainer.test_freq=10")
    assert status == "ok"
    assert "46,000 rows / 32 = 1,437 steps per epoch, 7,185 in total; 5 held-out rows, every 10 steps" in detail
    assert "719 checkpoints, the newest 2 kept" in detail


def test_all_are_kept(planned):
    assert "3 checkpoints, all of them kept" in planned(64, "longrl.checkpoints_to_keep=null")[1]


def test_steps_that_the_epochs_do_not_reach(planned):
    steps = "trainer.total_training_steps=12"
    status, detail = planned(64, *BY_EPOCHS, steps)
    assert status == "FAIL"
    assert "5 epochs of 2 steps (64 rows) have only 10" in detail
    assert "Fix: trainer.total_epochs=6" in detail
    assert planned(64, *BY_EPOCHS, steps, "trainer.total_epochs=6")[0] == "ok"


def test_a_run_without_checkpoints(planned):
    status, detail = planned(64, "trainer.save_freq=-1")
    assert status == "warn"
    assert "cannot be resumed and exports nothing" in detail


def test_rows_that_cannot_be_counted(check):
    assert check("data.train_files=['hdfs://data/train.parquet']")["plan"][0] == "warn"


@pytest.mark.parametrize(("keep", "at_once"), [("3", 4), ("null", 719), ("1", 2)])
def test_the_disk_holds_what_is_kept_and_what_is_being_written(configure, free_disk, keep: str, at_once: int):
    config = configure(*BY_EPOCHS, "trainer.save_freq=10", f"longrl.checkpoints_to_keep={keep}")
    longrl = longrl_of(config)
    planned = plan.make_plan(config, longrl, 46000)
    for free, status in ((85 * at_once + 1, "ok"), (85 * at_once - 1, "FAIL")):
        free_disk(free)
        (line,) = disk.check_disk(config, longrl, SimpleNamespace(checkpoint=85.0, parameters=0), False, planned)
        assert line.status == status
        assert f"the {planned.kept} of 719 that are kept {85 * planned.kept:.2f} GiB" in line.detail


def test_upstream_still_counts_so():
    """Contract: an epoch of no steps is divided by, and epochs end a run whatever its steps."""
    import inspect

    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    source = inspect.getsource(PPOTrainer)
    assert "self.steps_per_epoch = len(self.train_dataset) // self.config.data.train_batch_size" in source
    assert "while current_epoch < self.config.trainer.total_epochs and self.global_steps" in source
