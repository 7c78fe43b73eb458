"""Numbers that say that a run is broken end it; numbers worth a look are a line; a healthy run's say nothing."""

import json
import math
from pathlib import Path

import pytest
from verl_longrl.trainer.console_lines import step_line
from verl_longrl.trainer.health import Health, WatchOptions

NAMES = ("reward/score", "actor/entropy", "actor/grad_norm", "group/zero_variance_frac")
REAL = json.loads(Path(__file__).with_name("health_of_a_run.json").read_text())
"""A real run of four prompts a step, as noisy as any: the demo's model, hardly warmed up."""


def row(reward=1.3, entropy=0.05, gradient=1.0, equal=0.25, **more):
    return dict(zip(NAMES, (reward, entropy, gradient, equal), strict=True)) | more


ALARMS = {
    "the probabilities differ": ({"training/rollout_probs_diff_mean": 0.011}, "differ by 1.1e-02 in a token's prob"),
    "the probabilities are nan": ({"training/rollout_probs_diff_mean": math.nan}, "differ by nan"),
    "cut": ({"reward/status_truncated": 0.125}, "12% of the responses were cut at the length limit"),
    "equal rewards": ({"group/count": 4.0, "group/zero_variance_frac": 0.75}, "75% of the groups have equal rewards"),
    "replaced groups": (
        {"group/count": 4.0, "group/zero_variance_frac": 0.0, "group/filtered": 12.0},
        "75% of the groups have equal rewards",
    ),
}


@pytest.mark.parametrize(("metrics", "words"), ALARMS.values(), ids=ALARMS)
def test_a_step_has_alarms_in_words(metrics, words):
    healthy = row(**{"group/count": 4.0, "group/filtered": 0.0, "reward/status_truncated": 0.1}) | {
        "training/rollout_probs_diff_mean": 0.01
    }
    assert Health(WatchOptions()).alarms(healthy) == []
    (alarm,) = Health(WatchOptions()).alarms(healthy | metrics)
    assert words in alarm
    shown = {"group/filtered": 0.0, "reward_before_filter/score": 0.5} | healthy | metrics
    assert step_line(1, 9, shown, [alarm, "second"]).endswith(f"  alarm: {alarm}; second")
    assert "alarm" not in step_line(1, 9, shown)


def test_rewards_that_are_not_compared_within_groups_may_be_equal():
    assert Health(WatchOptions(), grouped=False).alarms({"group/count": 4.0, "group/zero_variance_frac": 1.0}) == []


@pytest.mark.parametrize(
    ("reward", "answer", "alarmed"),
    [
        (lambda step: 0.2 + step / 40, lambda step: 0.1, True),
        (lambda step: 0.2 + step / 40, lambda step: 0.1 + step / 100, False),
        (lambda step: 0.2 + step / 40, lambda step: 0.95, False),
        (lambda step: 0.2 + step / 1000, lambda step: 0.1, False),
        (lambda step: 0.7 - step / 40, lambda step: 0.1, False),
        # Noise: 0 and 1 by turns, of which the second half has one more 1.
        (lambda step: float(step % 2 == 0 or step == 15), lambda step: 0.1, False),
    ],
    ids=["rises alone", "both rise", "answers are right", "hardly rises", "falls", "noise"],
)
def test_a_reward_that_rises_alone_is_an_alarm(reward, answer, alarmed):
    rows = [row(reward(step)) | {"reward/answer": answer(step)} for step in range(20)]
    health = Health(WatchOptions())
    health.remember(18, rows[:18])
    assert health.alarms(rows[18]) == [], "19 steps are too few"
    health.check(19, rows[18])
    alarms = health.alarms(rows[19])
    assert bool(alarms) == alarmed
    if alarmed:
        assert "the reward rose from 0.312 to 0.562 in 20 steps while answers stayed at 0.100" in alarms[0]


def watched(rows, options=None, first=1, health=None):
    """All lines, and (step, why) of the first step that is found broken."""
    health, lines = health or Health(options or WatchOptions()), []
    for step, metrics in enumerate(rows, first):
        said, broken = health.check(step, metrics)
        lines += said
        if broken:
            return lines, (step, broken)
    return lines, None


def resumed(before, options=None):
    health = Health(options or WatchOptions())
    health.remember(len(before), before)
    return health


def test_a_healthy_run_says_nothing_wherever_it_is_resumed():
    ends = ("critic/score/max", "critic/score/min")
    rows = [row(*numbers[:4], **dict(zip(ends, numbers[4:], strict=True))) for numbers in REAL]
    assert watched(rows) == ([], None)
    for known in (4, 7, 10, 20):
        for step in range(known, len(rows)):
            health = Health(WatchOptions())
            health.remember(step, rows[step - known : step])
            assert watched(rows[step : step + 3], first=step + 1, health=health) == ([], None), (known, step)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["actor/grad_norm", "actor/loss", "critic/vf_loss"])
def test_three_steps_that_are_not_finite_end_the_run(name, value):
    bad = row() | {name: value}
    lines, (step, why) = watched([row(), bad, bad, row(), bad, bad, bad])
    assert (step, why) == (7, f"{name} not finite in 3 steps in a row: nothing is learned")
    assert lines[0] == f"step 2: {name} not finite, step 1 (of 3 in a row that end the run)"
    assert watched([bad] * 20, WatchOptions(not_finite_steps=0))[1] is None


def test_checkpoints_do_not_count_from_the_first_bad_step_until_it_is_over():
    health = Health(WatchOptions())
    watched([row(), row()], health=health)
    assert (health.in_doubt, health.sound_until) == (None, None)
    watched([row(gradient=math.nan)] * 2, first=3, health=health)
    assert health.in_doubt == "gradient norm or loss has not been finite since step 3"
    assert health.sound_until == 2
    watched([row()], first=5, health=health)
    assert (health.in_doubt, health.sound_until) == (None, None)


def test_zero_gradients_end_the_run_where_rewards_differ():
    lines, (step, why) = watched([row()] + [row(gradient=0.0)] * 20)
    assert (step, lines) == (11, [])
    assert why.startswith("the gradient has been exactly zero in 10 steps in a row although rewards differ")


def test_steps_of_equal_rewards_in_between_say_nothing_about_zero_gradients():
    frozen = [row(gradient=0.0), row(gradient=0.0, equal=1.0)] * 10
    _, (step, why) = watched(frozen)
    assert (step, "exactly zero in 10 steps" in why) == (19, True)


def test_what_is_switched_off_doubts_nothing():
    health = Health(WatchOptions(not_finite_steps=0, zero_gradient_steps=0))
    watched([row(gradient=math.nan), row(gradient=0.0)], health=health)
    assert health.in_doubt is None


def test_equal_rewards_say_nothing_where_groups_are_not_compared():
    health = Health(WatchOptions(), grouped=False)  # one rollout a prompt, or advantages over a task
    lines, (step, _) = watched([row(equal=1.0)] * 20 + [row(gradient=0.0, equal=1.0)] * 20, health=health)
    assert (lines, step) == ([], 30)


def test_zero_gradients_of_equal_rewards_are_a_line_and_again_after_twice_as_many():
    lines, broken = watched([row(gradient=0.0, equal=1.0)] * 45)
    assert broken is None
    assert [line.split(" have been equal in ")[1].split()[0] for line in lines] == ["10", "20", "40"]
    assert "algorithm.filter_groups.enable=true" in lines[0]
    assert watched([row(equal=1.0)] * 9 + [row()] + [row(equal=1.0)] * 9)[0] == []


def test_a_resume_counts_on():
    health = resumed([row(gradient=0.0, equal=1.0)] * 9)
    (line,), _ = watched([row(gradient=0.0, equal=1.0)], first=10, health=health)
    assert "equal in 10 steps in a row" in line


def test_a_damaged_checkpoint_that_was_loaded_is_told_and_ends_the_run():
    """The numbers of a real one, with one bit of a shard flipped: reward and gradient zero, entropy 5.73."""
    health = resumed([row(1.167, 0.06), row(1.333, 0.05)])
    damaged = row(0.0, 5.73, 0.0, 1.0)
    lines, (step, why) = watched([damaged] * 20, first=3, health=health)
    assert lines[0] == (
        "step 3, the first after the resume, differs from the steps before it: "
        "reward 0 after 1.33 (1.17 to 1.33 before), entropy 5.73 after 0.05 (0.05 to 0.06 before)"
    )
    assert step == 12
    assert "the checkpoint is most likely damaged" in why
    assert health.sound_until == 1  # the step before the checkpoint that was loaded


def test_a_jump_that_goes_on_learning_is_a_line_alone():
    health = resumed([row()] * 5)
    lines, broken = watched([row(reward=0.1), *[row()] * 20], first=6, health=health)
    assert (len(lines), broken) == (1, None)
    assert health.in_doubt is None


def test_a_spike_is_told_against_the_median():
    lines, broken = watched([row(gradient=g) for g in (1.0, 2.0, 1.0, 3.0, 1.0, 11.0, 1.0)])
    assert (lines, broken) == (["step 6: gradient norm 11, usually 1"], None)
    assert watched([row(gradient=g) for g in (0.1, 11.0)])[0] == []  # too early to say what is usual


def test_a_gap_is_told_and_again_after_twice_as_many():
    bad, name = 0.05, "training/rollout_probs_diff_mean"
    lines, _ = watched([row(**{name: gap}) for gap in (1e-6, 0.015, bad, bad, bad, bad)])
    assert [line.split(":")[0] for line in lines] == ["step 3", "step 4", "step 6"]
    assert "longrl.watch.probability_gap = 0.02" in lines[0]


def test_metrics_that_are_not_there_or_not_numbers_are_no_finding():
    """A critic's warm-up has no actor's metrics; an earlier start may have written null."""
    nothing = dict.fromkeys(NAMES)
    assert watched([{}] * 20, health=resumed([nothing] * 5)) == ([], None)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match=r"longrl.watch.not_finite_steps = -1: expected a whole number of at least 0"):
        WatchOptions.from_dict({"not_finite_steps": -1}, "longrl.watch.")
