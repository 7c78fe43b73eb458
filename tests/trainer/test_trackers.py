"""A resumed run continues its W&B run and its TensorBoard curves."""

import errno
import json
import os
import sys
from types import SimpleNamespace

import pandas
import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from verl_longrl.trainer import trackers
from verl_longrl.trainer.rollout_key import RolloutKey
from verl_longrl.trainer.rollout_log import LoggedPrompt, LoggedRollouts

VARIABLES = ("WANDB_RUN_ID", "WANDB_RESUME", "TENSORBOARD_DIR")


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    return monkeypatch


def log(folder, steps, value):
    with SummaryWriter(folder) as writer:
        for step in steps:
            writer.add_scalar("reward/score", value, step)


def test_tensorboard_has_every_step_once(tmp_path):
    folder = str(tmp_path / "tensorboard")
    trackers.resume_at(0, tmp_path, ["tensorboard"])
    assert os.environ["TENSORBOARD_DIR"] == folder
    log(folder, range(1, 5), 0.25)
    trackers.resume_at(2, tmp_path, ["console", "tensorboard"])  # killed in step 5, the last checkpoint is of step 2
    log(folder, range(3, 7), 0.5)
    curve = EventAccumulator(folder).Reload().Scalars("reward/score")
    assert [(event.step, event.value) for event in curve] == [(1, 0.25), (2, 0.25), *((n, 0.5) for n in range(3, 7))]


def test_wandb_run_is_kept_on_a_resume_and_new_for_a_new_run(tmp_path, variables):
    def run_id(step: int) -> str:
        for name in VARIABLES:
            variables.delenv(name, raising=False)
        trackers.resume_at(step, tmp_path, ["wandb"])
        assert os.environ["WANDB_RESUME"] == "allow"
        return os.environ["WANDB_RUN_ID"]

    first = run_id(0)
    assert run_id(3) == first
    assert run_id(0) != first, "a run that begins again in the folder is another one"


def test_the_users_variables_win(tmp_path, variables):
    variables.setenv("WANDB_RUN_ID", "mine")
    variables.setenv("WANDB_RESUME", "must")
    trackers.resume_at(0, tmp_path, ["wandb"])
    assert (os.environ["WANDB_RUN_ID"], os.environ["WANDB_RESUME"]) == ("mine", "must")
    assert "TENSORBOARD_DIR" not in os.environ


def test_a_full_disk_costs_points_of_one_curve(monkeypatch, capsys):
    class Tracker:
        def __init__(self, error: OSError | None = None) -> None:
            self.error, self.steps = error, []

        def log(self, data, step) -> None:
            if self.error is not None:
                raise self.error
            self.steps.append(step)

        def finish(self) -> None:
            pass

    full = OSError(errno.ENOSPC, "No space left on device")
    tracking = trackers.LossyTracking("project", "run", ["console"], config={})
    tracking.logger = {"tensorboard": Tracker(full), "wandb": (wandb := Tracker())}
    tracking.log(data={"a": 1}, step=3)
    assert wandb.steps == [3]
    assert "longrl: trackers: [Errno 28] No space left on device: points of curves are lost" in capsys.readouterr().out
    tracking.logger = {"tensorboard": Tracker(OSError(errno.EIO, "Input/output error"))}
    with pytest.raises(OSError, match="Input/output"):
        tracking.log(data={"a": 1}, step=4)
    tracking.logger = {}


def test_a_resume_on_a_full_disk(tmp_path, monkeypatch, capsys):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", full)
    trackers.resume_at(2, tmp_path, ["tensorboard"])
    assert "points of curves are lost" in capsys.readouterr().out


def rollouts() -> LoggedRollouts:
    """Two rollouts of each of four prompts, whose documents are long."""
    info, document = {"question": "Where?"}, [7] * 100_000
    golds = {"a": "Paris", "b": ["Rome", "Roma"], "c": "Oslo", "d": {"x": 1}}
    prompts = {uid: LoggedPrompt(document, {"ground_truth": gold}, info) for uid, gold in golds.items()}
    keys = [RolloutKey(uid, session, 0) for session in (1, 0) for uid in golds]
    scores = [{"score": 0.5, "task": "qa", "status": "ok", "cited_ids": "[3]"}] * 8
    return LoggedRollouts(prompts, keys, [[1, 2]] * 8, scores, [{"advantage": 0.25}] * 8)


def decode(tokens: list[int], **_: object) -> str:
    assert len(tokens) == 2, "no document"
    return "<answer>"


CHOSEN = {1: ["a0"], 2: ["a0", "c0"], 4: ["a0", "b0", "c0", "d0"], 99: [f"{uid}{n}" for uid in "abcd" for n in (0, 1)]}


@pytest.mark.parametrize(("count", "chosen"), CHOSEN.items())
def test_a_table_has_rollouts_of_different_prompts(count, chosen):
    rows = [dict(zip(trackers.COLUMNS, row, strict=True)) for row in trackers.table_rows(7, rollouts(), count, decode)]
    assert [f"{row['uid']}{row['rollout']}" for row in rows] == chosen
    first = rows[0]
    assert (first["step"], first["question"], first["ground_truth"]) == (7, "Where?", "Paris")
    assert (first["response"], first["response_tokens"]) == ("<answer>", 2)
    assert (first["score"], first["cited_ids"], first["advantage"], first["recall"]) == (0.5, "[3]", 0.25, None)


def test_tables_of_three_trackers(monkeypatch, capsys):
    logged: dict[str, tuple] = {}

    def log(name):
        return lambda *args, **kwargs: logged.__setitem__(name, (args, kwargs))

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(log_table=log("mlflow")))
    trackio = SimpleNamespace(Table=lambda dataframe: dataframe)
    tracking = object.__new__(trackers.LossyTracking)
    tracking.logger = {
        "wandb": SimpleNamespace(Table=wandb.Table, log=log("wandb")),
        "trackio": SimpleNamespace(trackio=trackio, log=log("trackio")),
        **{"mlflow": SimpleNamespace(), "console": SimpleNamespace()},
    }
    tracking.log_rollouts(3, rollouts(), 4, decode)
    (entries,), steps = logged["wandb"]
    assert (steps, entries["rollouts"].columns, len(entries["rollouts"].data)) == ({"step": 3}, [*trackers.COLUMNS], 4)
    (entries,), _ = logged["trackio"]
    assert list(entries["rollouts"]["ground_truth"]) == ["Paris", '["Rome", "Roma"]', "Oslo", '{"x": 1}']
    assert isinstance(entries["rollouts"], pandas.DataFrame)
    (columns,), options = logged["mlflow"]
    assert options == {"artifact_file": "rollouts/000003.json"}
    assert json.loads(json.dumps(columns))["response"] == ["<answer>"] * 4
    assert capsys.readouterr().out == ""
    tracking.logger = {}


def test_a_tracker_that_refuses_a_table_does_not_end_the_run(capsys):
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    tracking = object.__new__(trackers.LossyTracking)
    tracking.logger = {"wandb": SimpleNamespace(Table=wandb.Table, log=fail)}
    tracking.log_rollouts(3, rollouts(), 4, decode)
    assert "longrl: step 3: no table of rollouts in wandb: ConnectionError: no route" in capsys.readouterr().out
    tracking.log_rollouts(3, rollouts(), 4, fail)
    tracking.logger = {}
