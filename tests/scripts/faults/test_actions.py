"""Actions change the files of a run as they say, and nothing else."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import actions
from faults.trial import FaultMissed

SHARD = "actor/model_world_size_1_rank_0.pt"


@pytest.fixture
def trial(new_trial):
    return new_trial("one")


def newest_file(trial, name=SHARD):
    return trial.checkpoints / "global_step_6" / name


def test_one_bit_flips(trial):
    before = newest_file(trial).read_bytes()
    actions.flip_bit(SHARD)(trial)
    after = newest_file(trial).read_bytes()
    assert sum((a ^ b).bit_count() for a, b in zip(before, after, strict=True)) == 1
    assert f"of actor/{newest_file(trial).name}" in trial.moment


def test_a_file_is_truncated(trial):
    before = newest_file(trial).read_bytes()
    actions.truncate_file(SHARD)(trial)
    after = newest_file(trial).read_bytes()
    assert len(after) < len(before)
    assert before.startswith(after)


def test_the_newest_complete_checkpoint_is_damaged(trial):
    newest_file(trial, "complete.json").unlink()
    older = trial.checkpoints / "global_step_4" / "complete.json"
    actions.overwrite_file("complete.json", "[]")(trial)
    assert older.read_text() == "[]"
    older.unlink()
    with pytest.raises(FaultMissed, match="no complete checkpoint"):
        actions.truncate_file(SHARD)(trial)


def test_logs_are_torn_and_keep_their_lines(trial):
    paths = [trial.output / name for name in ("metrics.jsonl", "rollouts/index.jsonl", "rollouts/prompts.jsonl")]
    before = [path.read_bytes() for path in paths]
    actions.tear_logs(trial)
    for path, text in zip(paths, before, strict=True):
        after = path.read_bytes()
        assert {*text.splitlines()} < {*after.splitlines()}
        assert b"\0" * 512 in after
        assert b"\xff\xfe" in after
        assert not after.endswith(b"\n")


def test_data_changes_without_size_and_time_until_it_is_restored(trial):
    path = trial.assets / "train.parquet"
    table = pa.table({"index": list(range(500)), "question": [f"What is {n}?" for n in range(500)]})
    pq.write_table(table, path, compression="zstd")
    before = path.stat()
    actions.change_data(trial)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert pq.read_table(path).schema == table.schema
    assert not pq.read_table(path).equals(table)
    actions.restore_files(trial)
    assert pq.read_table(path).equals(table)
    assert sorted(p.name for p in trial.assets.iterdir()) == ["model", "train.parquet"]


def test_a_template_changes_without_its_length_until_it_is_restored(trial):
    path = trial.assets / "model" / "chat_template.jinja"
    path.write_text("{% for message in messages %}\n{{ message.content }}\n{% endfor %}")
    before = path.read_text()
    actions.change_template(trial)
    assert path.read_text() != before
    assert len(path.read_text()) == len(before)
    actions.restore_files(trial)
    assert path.read_text() == before


def test_a_moved_run_is_found_in_its_new_place(trial):
    old = trial.folder
    trial.starts[0].console = old / "console-1.txt"
    actions.move_folder(trial)
    assert not old.exists()
    assert trial.console == "step 6/6\n"
    assert f"longrl.output_dir={trial.folder}/run" in trial.command()
    assert str(old) + "/" not in " ".join(trial.command())


def test_a_change_of_another_programs_checkpoint_is_a_problem(trial):
    actions.plant_checkpoint(trial)
    actions.remove_planted_checkpoint(trial)
    assert trial.problems == []
    actions.plant_checkpoint(trial)
    (trial.checkpoints / actions.FOREIGN_CHECKPOINT / "actor" / "more").touch()
    (trial.folder / "elsewhere").rename(trial.folder / "before")
    actions.remove_planted_checkpoint(trial)
    assert "belongs to another program, but now has" in trial.problems[0]


@pytest.mark.skipif(actions.mount_problem() is not None, reason="only root may mount a disk")
def test_a_disk_fills_up_and_is_freed(trial):
    actions.mount_small_disk("small")(trial)
    file = trial.output / "small" / "file"
    try:
        file.write_bytes(bytes(100_000))
        actions.fill_disk(trial)
        with pytest.raises(OSError, match="No space left"):
            file.with_name("other").write_bytes(bytes(100_000))
        actions.free_disk(trial)
        file.with_name("other").write_bytes(bytes(100_000))
    finally:
        trial.close()
    assert not file.exists()
