"""The same seed gives the same faults at the same moments; a campaign's faults are told apart and described."""

import re
from collections import Counter
from types import SimpleNamespace

import pytest
from faults import invariants, moments
from faults.campaign import drawn
from faults.kinds import FAULTS
from faults.processes import ROLES
from faults.trial import Missed


def names(faults):
    return [fault.name for fault in faults]


def test_a_seed_decides_the_order():
    assert names(drawn(3)) == names(drawn(3))
    assert names(drawn(3)) != names(drawn(4))
    assert sorted(names(drawn(3))) == sorted(names(FAULTS))


def test_some_are_chosen_by_name():
    assert sorted(names(drawn(0, ["moved", "term"]))) == ["moved", "term"]
    with pytest.raises(ValueError, match="no fault is called mooved; there are nothing, kill_driver,"):
        drawn(0, ["mooved"])


def test_there_are_many_and_each_says_what_it_is():
    assert len(FAULTS) >= 25
    assert max(Counter(names(FAULTS)).values()) == 1
    assert max(Counter(fault.says for fault in FAULTS).values()) == 1
    assert all(fault.without <= invariants.INVARIANTS.keys() for fault in FAULTS)
    assert {f"kill_{role}" for role in ROLES} <= set(names(FAULTS))
    for fault in FAULTS:
        re.compile(fault.said)


class Standing:
    """A run that has come as far as anybody waits for."""

    def __init__(self, trial):
        self.draw, self.checkpoints, self.output = trial.draw, trial.checkpoints, trial.output
        self.step_seconds, self.moment, self.last = 0.01, "", None

    def until(self, reached, what, every_s=0.0):
        self.moment += what


@pytest.mark.parametrize(
    "moment",
    [moments.in_training(), moments.once_there("gcs"), moments.while_saving, moments.while_exporting],
    ids=["training", "role", "saving", "export"],
)
def test_a_seed_decides_the_moment(new_trial, moment, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("faults.moments.time", SimpleNamespace(sleep=slept.append))  # other threads sleep, too
    noted = []
    for _ in range(2):
        trial = Standing(new_trial(f"run{len(noted)}"))
        trial.draw.seed("the same")
        moment(trial)
        noted.append(trial.moment)
    assert noted[0] == noted[1]
    assert slept[0] == slept[1]


def test_a_run_that_ends_too_early_is_told(new_trial):
    trial = new_trial("one")
    trial.starts[0].process = type("Ended", (), {"poll": lambda self: 1, "returncode": 1})()
    with pytest.raises(Missed, match="the run ended with 1 before step 3"):
        trial.until(lambda: False, "step 3")
