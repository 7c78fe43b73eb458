"""A step whose rewards mostly failed stops the run, with a message that says what to do."""

import pytest
from verl_longrl.rewards import FailureGuard


def test_the_share_decides():
    guard = FailureGuard(0.25)
    assert guard.check(["ok", "ok", "format_error", "truncated", "ok", "ok", "judge_error", "timeout"]) is None
    message = guard.check(["ok", "judge_error", "judge_error", "scorer_error"])
    assert message is not None
    assert "3 of 4 rewards of this step failed (2 judge_error, 1 scorer_error): 75%" in message
    assert "max_failure_share = 25%" in message
    assert guard.check([]) is None


def test_one_never_stops_and_zero_always():
    assert FailureGuard(1.0).check(["timeout"] * 5) is None
    assert FailureGuard(0.0).check(["ok"] * 99 + ["timeout"]) is not None


def test_invalid_values_are_refused():
    with pytest.raises(ValueError, match="status = 'fine': expected one of"):
        FailureGuard().check(["fine"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        FailureGuard(2)


def test_a_judge_that_was_away_is_told_from_one_that_failed():
    guard = FailureGuard(0.25)
    assert guard.judge_away(["ok", "judge_away"])
    assert not guard.judge_away(["ok", "ok", "ok", "judge_away"])  # few enough to go on
    assert not guard.judge_away(["ok", "judge_error", "judge_away"])
