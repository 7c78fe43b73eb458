"""The same seed gives the same faults at the same moments; faults have distinct names and descriptions."""

import re
from collections import Counter
from types import SimpleNamespace

import pytest
from faults import invariants, moments
from faults.campaign import draw_faults
from faults.catalog import FAULTS
from faults.processes import ROLES
from faults.trial import FaultMissed


def names(faults):
    return [fault.name for fault in faults]


def test_a_seed_decides_the_order():
    assert names(draw_faults(3)) == names(draw_faults(3))
    assert names(draw_faults(3)) != names(draw_faults(4))
    assert sorted(names(draw_faults(3))) == sorted(names(FAULTS))


def test_faults_are_chosen_by_name():
    assert sorted(names(draw_faults(0, ["moved", "term"]))) == ["moved", "term"]
    with pytest.raises(ValueError, match="unknown fault mooved; expected one of nothing, kill_driver,"):
        draw_faults(0, ["mooved"])


def test_each_fault_has_a_name_and_a_description():
    assert len(FAULTS) >= 25
    assert max(Counter(names(FAULTS)).values()) == 1
    assert max(Counter(fault.description for fault in FAULTS).values()) == 1
    assert all(fault.skip <= invariants.INVARIANTS.keys() for fault in FAULTS)
    assert {f"kill_{role}" for role in ROLES} <= set(names(FAULTS))
    for fault in FAULTS:
        re.compile(fault.console)


class FakeTrial:
    """A run that has reached every moment."""

    def __init__(self, trial):
        self.draw, self.checkpoints, self.output = trial.draw, trial.checkpoints, trial.output
        self.step_seconds, self.moment, self.last = 0.01, "", None

    def wait_until(self, reached, what, every_s=0.0):
        self.moment += what


@pytest.mark.parametrize(
    "moment",
    [moments.in_training(), moments.after_start_of("gcs"), moments.while_saving, moments.while_exporting],
    ids=["training", "role", "saving", "export"],
)
def test_a_seed_decides_the_moment(new_trial, moment, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("faults.moments.time", SimpleNamespace(sleep=slept.append))  # Only this module's sleep.
    recorded = []
    for _ in range(2):
        trial = FakeTrial(new_trial(f"run{len(recorded)}"))
        trial.draw.seed("the same")
        moment(trial)
        recorded.append(trial.moment)
    assert recorded[0] == recorded[1]
    assert slept[0] == slept[1]


def test_a_run_that_ends_too_early_misses_the_fault(new_trial):
    trial = new_trial("one")
    trial.starts[0].process = type("Ended", (), {"poll": lambda self: 1, "returncode": 1})()
    with pytest.raises(FaultMissed, match="the run ended with 1 before step 3"):
        trial.wait_until(lambda: False, "step 3")
