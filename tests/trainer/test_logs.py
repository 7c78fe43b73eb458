"""A step's logs: strict JSON, lost on a full disk rather than the run, and not written into another run's folder."""

import errno
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.folder_lock import Claim, FolderTakenOver, hold_folders
from verl_longrl.trainer.rollout_log import RolloutLog, step_files

pytestmark = pytest.mark.engine


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch):
    """A trainer at step 3 with two rollouts of one prompt, which seals checkpoints into its list `sealed`."""
    import torch
    from verl_longrl.trainer import transfer_queue_rows
    from verl_longrl.trainer.metrics_log import MetricsLog
    from verl_longrl.trainer.step_state import StepState
    from verl_longrl.trainer.trainer import LongRLTrainer

    def rows(keys, *values):
        return torch.nested.as_nested_tensor([torch.tensor(values) for _ in keys], layout=torch.jagged)

    def get(keys, partition_id, select_fields):
        fields = {
            "prompts": rows(keys, 7, 8, 9),
            "reward_model": [{"ground_truth": "x"} for _ in keys],
            "extra_info": [{"index": 4} for _ in keys],
            "responses": rows(keys, 1, 2, 3),
            "response_mask": rows(keys, 1, 0, 1),
            "rollout_log_probs": rows(keys, -1.0, -7.0, -2.0),
            "metrics": [{"generate_sequences": 4.0, "compute_score": 0.5} for _ in keys],
            "extra_fields": [{"reward_extra_info": {"score": 0.5, "own_parts": "{}"}} for _ in keys],
        }
        if partition_id == "train":
            fields |= {"old_log_probs": rows(keys, -1.5, 0.0, -1.0), "advantages": rows(keys, 0.25, 0.0, 0.25)}
        return {name: fields[name] for name in select_fields if name in fields}

    monkeypatch.setattr(transfer_queue_rows.tq, "kv_batch_get", get)
    one = object.__new__(LongRLTrainer)
    one.global_steps, one.metrics_log = 3, MetricsLog(tmp_path / "metrics.jsonl")
    one.rollout_log = RolloutLog(tmp_path / "rollouts")
    one.tokenizer = SimpleNamespace(decode=lambda ids, **_: " ".join(map(str, ids.tolist())))
    scores = [{"score": 1.0, "own_parts": "{}"}, {"score": float("nan"), "own_parts": '{"x": NaN}'}]
    one.step_state = StepState(keys=["u_0_0", "u_1_0"], scores=scores, unsealed=tmp_path / "global_step_3")
    one.longrl = SimpleNamespace(samples_per_step=0)
    one._dump_futures, one._dump_executor = [], ThreadPoolExecutor(1)
    one.sealed = []
    one._seal = one.sealed.append
    return one


def log(trainer) -> None:
    # The last row is one that verl adds as padding.
    keys = [*trainer.step_state.keys, "padding_0_0"]
    tags = [{"min_global_steps": trainer.global_steps - 1}] * len(keys)
    trainer._log_rollout_data(SimpleNamespace(partition_id="train", keys=keys, tags=tags), {}, "")
    finish(trainer)


def finish(trainer) -> None:
    for future in trainer._dump_futures:
        future.result()


def refuse(constant: str) -> None:
    raise ValueError(constant)


def test_nan_is_null(trainer, tmp_path: Path):
    trainer._write_metrics("train", 3, {"loss": float("nan"), "grad": float("inf"), "lr": 1e-6, "name": "x"})
    log(trainer)
    (row,) = (json.loads(line, parse_constant=refuse) for line in trainer.metrics_log.path.read_text().splitlines())
    assert (row["loss"], row["grad"], row["lr"]) == (None, None, 1e-6)
    rollouts = (tmp_path / "rollouts" / "train" / "3.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in rollouts]
    assert [(row["score"], row["own_parts"]) for row in rows] == [(1.0, {}), (None, {"x": None})]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_rollouts_that_a_full_disk_refuses_are_dropped(trainer, tmp_path: Path, monkeypatch, capsys, number: int):
    def full(*_: object) -> None:
        raise OSError(number, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.rollout_log, "write_step", full)
        log(trainer)
    assert "longrl: step 3: its rollouts (train) are not logged: [Errno" in capsys.readouterr().out
    assert trainer.sealed == [tmp_path / "global_step_3"], "the checkpoint says itself whether there is room for it"
    trainer.global_steps = 4
    log(trainer)
    assert [*step_files(tmp_path / "rollouts")] == [4]


def test_measures_of_a_rollout(trainer, tmp_path: Path):
    log(trainer)
    first, second = read_jsonl(tmp_path / "rollouts" / "train" / "3.jsonl")
    assert {name: first[name] for name in ("advantage", "logprob_gap", "seconds", "scoring_seconds")} == {
        # Tokens that the model did not write do not count.
        **{"advantage": 0.25, "logprob_gap": 0.75, "seconds": 4.0, "scoring_seconds": 0.5}
    }
    assert (first["weights_step"], first["response_tokens"], first["prompt_tokens"]) == (2, 3, 3)
    assert (first["rollout"], second["rollout"]) == (0, 1)


def test_rollouts_of_a_validation_and_of_replaced_groups(trainer, tmp_path: Path, monkeypatch):
    from verl_longrl.trainer import trainer as module

    monkeypatch.setattr(module, "MOST_FILTERED", 3)
    tags = {f"{uid}_{session}_0": {"min_global_steps": 3} for uid in "abcde" for session in (0, 1)}
    trainer._on_untrained("val", tags)
    trainer._record(RolloutLog.write, "val", 3)
    trainer.step_state.filtered = [[]]
    trainer._on_untrained("filtered", tags)
    trainer.step_state.filtered = [[]] * 6
    trainer._on_untrained("filtered", tags)
    log(trainer)
    folder = tmp_path / "rollouts"
    held_out, filtered = (read_jsonl(folder / split / "3.jsonl") for split in ("val", "filtered"))
    assert [(row["uid"], row["rollout"]) for row in held_out] == [(uid, n) for uid in "abcde" for n in (0, 1)]
    assert [row["uid"] for row in filtered] == ["a", "a", "b", "b"], "three groups in a step, of which one was before"
    assert (held_out[0]["score"], held_out[0]["weights_step"]) == (0.5, 3)
    assert [row["split"] for row in read_jsonl(folder / "index.jsonl")] == ["val"] * 10 + ["filtered"] * 4 + [
        "train"
    ] * 2


@pytest.mark.parametrize("method", ["add", "write", "write_step", "add_prompts"])
def test_no_error_of_the_log_reaches_the_trainer(trainer, monkeypatch, capsys, method: str):
    def fail(*_: object, **__: object) -> None:
        raise TypeError("set is not JSON-serialisable")

    monkeypatch.setattr(RolloutLog, method, fail)
    log(trainer)
    assert "longrl: step 3: its rollouts (train) are not logged: set is not JSON-ser" in capsys.readouterr().out
    assert len(trainer.sealed) == 1


def test_no_error_of_transfer_queue_reaches_the_trainer(trainer, tmp_path: Path, monkeypatch, capsys):
    from verl_longrl.trainer import transfer_queue_rows

    def fail(*_: object, **__: object) -> None:
        raise ValueError("keys or partition were not found!")

    trainer._on_untrained("val", {"a_0_0": {}})
    monkeypatch.setattr(transfer_queue_rows.tq, "kv_batch_get", fail)
    trainer._on_untrained("val", {"b_0_0": {}})
    trainer._record(RolloutLog.write, "val", 3)
    log(trainer)
    assert not step_files(tmp_path / "rollouts", "val"), "all rollouts of a step or none"
    assert capsys.readouterr().out.count("are not logged: keys or partition were not found!") == 2
    assert len(trainer.sealed) == 1


def test_metrics_wait_for_room(trainer, monkeypatch, capsys):
    monkeypatch.setattr(trainer.metrics_log._journal, "add", lambda row: "no room")
    trainer._write_metrics("train", 3, {})
    assert capsys.readouterr().out == "longrl: step 3: no room\n"


def test_a_folder_that_another_run_has_taken_over_is_not_written_to(trainer, tmp_path: Path):
    with hold_folders([tmp_path], on_taken_over=lambda why: None):
        trainer.claims = (Claim(tmp_path),)
        trainer._write_metrics("train", 2, {})
        (tmp_path / ".lock-1").unlink()
        with pytest.raises(FolderTakenOver):
            trainer._write_metrics("train", 3, {})
        with pytest.raises(FolderTakenOver):
            log(trainer)
        with pytest.raises(FolderTakenOver):
            trainer._save_checkpoint()
    assert [row["step"] for row in read_jsonl(trainer.metrics_log.path)] == [2]
    assert trainer.sealed == []
    assert not step_files(tmp_path / "rollouts")
