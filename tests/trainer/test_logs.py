"""A step's logs: strict JSON, lost on a full disk rather than the run, and not written into another run's folder."""

import errno
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.folder_lock import Claim, FolderTakenOver, hold_folders
from verl_longrl.trainer.rollout_log import RolloutLog

pytestmark = pytest.mark.engine


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch):
    """A trainer at step 3 with two rollouts of one prompt, which seals checkpoints into its list `sealed`."""
    import torch
    from verl_longrl.trainer import transfer_queue_rows
    from verl_longrl.trainer.metrics_log import MetricsLog
    from verl_longrl.trainer.step_state import StepState
    from verl_longrl.trainer.trainer import LongRLTrainer

    def get(keys, partition_id, select_fields):
        if select_fields == ["responses"]:
            return {
                "responses": torch.nested.as_nested_tensor([torch.tensor([1, 2]) for _ in keys], layout=torch.jagged)
            }
        prompts = torch.nested.as_nested_tensor([torch.tensor([7, 8, 9]) for _ in keys], layout=torch.jagged)
        return {"prompts": prompts, "reward_model": [{"ground_truth": "x"}], "extra_info": [{"index": 4}]}

    monkeypatch.setattr(transfer_queue_rows.tq, "kv_batch_get", get)
    one = object.__new__(LongRLTrainer)
    one.global_steps, one.metrics_log = 3, MetricsLog(tmp_path / "metrics.jsonl")
    one.rollout_log = RolloutLog(tmp_path / "rollouts")
    one.tokenizer = SimpleNamespace(decode=lambda ids, **_: " ".join(map(str, ids.tolist())))
    scores = [{"score": 1.0, "own_parts": "{}"}, {"score": float("nan"), "own_parts": '{"x": NaN}'}]
    one.step_state = StepState(keys=["u_0_0", "u_1_0"], scores=scores, unsealed=tmp_path / "global_step_3")
    one._dump_futures, one._dump_executor = [], ThreadPoolExecutor(1)
    one.sealed = []
    one._seal = one.sealed.append
    return one


def log(trainer) -> None:
    trainer._log_rollout_data(SimpleNamespace(partition_id="train"), {}, "")
    for future in trainer._dump_futures:
        future.result()


def refuse(constant: str) -> None:
    raise ValueError(constant)


def test_nan_is_null(trainer, tmp_path: Path):
    trainer._write_metrics("train", 3, {"loss": float("nan"), "grad": float("inf"), "lr": 1e-6, "name": "x"})
    log(trainer)
    (row,) = (json.loads(line, parse_constant=refuse) for line in trainer.metrics_log.path.read_text().splitlines())
    assert (row["loss"], row["grad"], row["lr"]) == (None, None, 1e-6)
    rollouts = (tmp_path / "rollouts" / "3.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in rollouts]
    assert [(row["score"], row["own_parts"]) for row in rows] == [(1.0, {}), (None, {"x": None})]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_rollouts_that_a_full_disk_refuses_are_dropped(trainer, tmp_path: Path, monkeypatch, capsys, number: int):
    def full(*_: object) -> None:
        raise OSError(number, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.rollout_log, "write_step", full)
        log(trainer)
    assert "longrl: step 3: its rollouts are not logged: [Errno" in capsys.readouterr().out
    assert trainer.sealed == [tmp_path / "global_step_3"], "the checkpoint says itself whether there is room for it"
    trainer.global_steps = 4
    log(trainer)
    assert [path.name for path in (tmp_path / "rollouts").glob("[0-9]*")] == ["4.jsonl"]


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
    assert not (tmp_path / "rollouts" / "3.jsonl").exists()
