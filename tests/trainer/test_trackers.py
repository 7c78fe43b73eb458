"""A resumed run continues its W&B run and its TensorBoard curves."""

import errno
import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from verl_longrl.trainer import trackers

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
