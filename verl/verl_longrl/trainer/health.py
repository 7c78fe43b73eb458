"""Watch a run's metrics for signs that it is broken, or that somebody should look at it.

verl skips an update whose gradient norm is not finite with a line in the log, and continues forever. A checkpoint that
was damaged on the disk loads without a word. Neither is an error anywhere, but both show in the metrics of each step,
so these are watched:

- broken, the run ends without saving: gradient norm or loss not finite in several steps in a row; gradients exactly
  zero for long although rewards differ, or ever since a resume at which the numbers jumped;
- words on the step's line (`alarms`): a step that somebody should look at, such as one with many cut responses;
- a line: numbers that jump at a resume, a gradient norm far above its median, different probabilities in rollout and
  trainer, equal rewards within every group for long (where the group filter does not replace them).

While a step may be the first of a broken run, its checkpoint does not count (`in_doubt`), so that the good ones are
not rotated away. Weights that are not finite are refused when a checkpoint is written (`finite_weights.py`).
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median, variance
from typing import Any

from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass as option_group

from verl_longrl.options import Options, Share

FINITE = ("actor/grad_norm", "actor/loss", "actor/pg_loss", "critic/grad_norm", "critic/vf_loss")
GRADIENT, REWARD, ENTROPY = "actor/grad_norm", "reward/score", "actor/entropy"
BEST, WORST = "critic/score/max", "critic/score/min"
PROB_DIFF, ZERO_VARIANCE = "training/rollout_probs_diff_mean", "group/zero_variance_frac"
GROUPS, FILTERED = "group/count", "group/filtered"
ANSWER, CUT = "reward/answer", "reward/status_truncated"
GAP_ALARM, CUT_ALARM, NO_SIGNAL_ALARM = 1e-2, 0.1, 0.5
"""A step has an alarm above these: mean difference of a token's probability between rollout and trainer; share of
responses that were cut before an answer (verl's clip_ratio counts the longest of a batch); share of groups with equal
rewards, replaced ones included."""
RISE, FLAT, SOLVED = 0.1, 0.02, 0.9
"""The reward rises while answers are flat: from one half of the recent steps to the other, by more than this share of
the distance between the best and the worst rollout, while answers change by less than `FLAT` and are below `SOLVED`."""
RECENT = 20
"""Steps that the next one is compared with."""
SPIKE = 10.0
"""A gradient norm of this many times the median of the recent steps gives a line, after at least `SPIKE_STEPS`."""
SPIKE_STEPS = 5
JUMP_SHARE, JUMP_FACTOR = 0.25, 3.0
"""A number jumps when it leaves the range of the recent steps by more than the range's own width, and by more than this
share of the distance between the best and the worst rollout (rewards) or this factor (entropy and gradient norm, which
are compared as logarithms; a larger one while few steps are known)."""


@option_group(frozen=True)
class WatchOptions(Options):
    """Limits for the numbers of each step."""

    not_finite_steps: NonNegativeInt = 3
    """The run ends without saving after this many steps in a row with a gradient norm or loss that is not finite; 0:
    never."""
    zero_gradient_steps: NonNegativeInt = 10
    """The same for steps with gradients of exactly zero although rewards differ."""
    equal_reward_steps: NonNegativeInt = 10
    """A line is printed after this many steps in a row with equal rewards within every group; 0: never."""
    probability_gap: Share = 0.02
    """A line is printed when a token's probability differs by more than this, on average, between rollout and trainer.
    verl's FAQ calls up to 0.005 normal and more than 0.01 a matter of precision; healthy runs in bfloat16 were seen
    between."""


@dataclass
class _Streak:
    """Counts the steps in a row for which a condition holds, and says when to report it: at `first` steps, then after
    twice as many each time (10, 20, 40)."""

    first: int = 1
    since: int | None = None
    length: int = 0
    _reported_at: int = 0

    def count(self, step: int, holds: bool) -> bool:
        """Count a step. Returns whether to report the streak now."""
        if not holds:
            self.since, self.length, self._reported_at = None, 0, 0
            return False
        self.since = step if self.since is None else self.since
        self.length += 1
        due = self.first > 0 and self.length >= max(self.first, 2 * self._reported_at)
        self._reported_at = self.length if due else self._reported_at
        return due


class Health:
    """Checks each step's metrics. Call `remember` with those of earlier starts of the run, then `check` at each step.

    grouped: rollouts are compared within their group, so nothing is learned from a group with equal rewards.
    """

    def __init__(self, options: WatchOptions, grouped: bool = True) -> None:
        self.options, self._grouped = options, grouped
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)
        self._resumed_from: int | None = None
        self._jumped: str | None = None
        self._not_finite, self._zero = _Streak(), _Streak()
        self._equal, self._prob_diff = _Streak(options.equal_reward_steps), _Streak()

    def remember(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """The run is resumed after `step`; rows: the metrics of its steps until then, oldest first."""
        for row in rows:
            self._recent.append(row)
            self._equal.count(int(row.get("step", step)), self._teaches_nothing(row))
        self._resumed_from = step

    def check(self, step: int, metrics: Mapping[str, Any]) -> tuple[list[str], str | None]:
        """Lines to print, and why the run is broken, or None."""
        lines = []
        if self._resumed_from is not None and step == self._resumed_from + 1:
            self._jumped = self._jump(metrics)
            if self._jumped:
                lines.append(
                    f"step {step}, the first after the resume, differs from the steps before it: {self._jumped}"
                )
        broken = self._broken(step, metrics, lines)
        lines += self._warnings(step, metrics)
        self._recent.append(metrics)
        return lines, broken

    def alarms(self, metrics: Mapping[str, Any]) -> list[str]:
        """The things to look at in this step, each in a few words. Call it before `check`."""
        alarms = []
        gap, cut = metrics.get(PROB_DIFF), metrics.get(CUT)
        # Not `gap > limit`, which is false for nan.
        if gap is not None and not gap <= GAP_ALARM:
            alarms.append(f"rollout and trainer differ by {gap:.1e} in a token's probability")
        if cut is not None and cut > CUT_ALARM:
            alarms.append(f"{cut:.0%} of the responses were cut at the length limit")
        kept, filtered = metrics.get(GROUPS, 0.0), metrics.get(FILTERED, 0.0)
        if self._grouped and kept + filtered > 0:
            equal = (metrics.get(ZERO_VARIANCE, 0.0) * kept + filtered) / (kept + filtered)
            if equal > NO_SIGNAL_ALARM:
                alarms.append(f"{equal:.0%} of the groups have equal rewards")
        return alarms + self._flat_answers(metrics)

    def _flat_answers(self, metrics: Mapping[str, Any]) -> list[str]:
        """The alarm for a reward that rises while answers do not get better."""
        rows = [*self._recent, metrics][-RECENT:]
        rewards, answers = _values(rows, REWARD), _values(rows, ANSWER)
        if not len(rewards) == len(answers) == RECENT:
            return []
        half = RECENT // 2
        before, after = rewards[:half], rewards[half:]
        answer_before, answer = fmean(answers[:half]), fmean(answers[half:])
        rise, noise = fmean(after) - fmean(before), math.sqrt((variance(before) + variance(after)) / half)
        spread = max(_values(rows, BEST), default=1.0) - min(_values(rows, WORST), default=0.0)
        if rise <= max(RISE * spread, 3 * noise) or abs(answer - answer_before) >= FLAT or answer >= SOLVED:
            return []
        means = f"{fmean(before):.3f} to {fmean(after):.3f}"
        return [f"the reward rose from {means} in {RECENT} steps while answers stayed at {answer:.3f}"]

    @property
    def in_doubt(self) -> str | None:
        """Why a checkpoint of this step should not count, or None."""
        if self._not_finite.length and self.options.not_finite_steps:
            return f"gradient norm or loss has not been finite since step {self._not_finite.since}"
        if self._zero.length and self.options.zero_gradient_steps:
            return f"the gradient has been zero since step {self._zero.since}"
        return None

    @property
    def sound_until(self) -> int | None:
        """The last step whose weights can be trusted; None: all steps can."""
        if self._not_finite.since is not None:
            return self._not_finite.since - 1
        if self._zero.since is None:
            return None
        # After a jump, the checkpoint that was loaded is in doubt as well.
        return self._zero.since - (2 if self._jumped else 1)

    def _broken(self, step: int, metrics: Mapping[str, Any], lines: list[str]) -> str | None:
        bad = [name for name in FINITE if name in metrics and _value(metrics, name) is None]
        limit = self.options.not_finite_steps
        if self._not_finite.count(step, bool(bad)):
            ends = f" (of {limit} in a row that end the run)" if limit else ""
            lines.append(f"step {step}: {', '.join(bad)} not finite, step {self._not_finite.length}{ends}")
        if limit and self._not_finite.length >= limit:
            return f"{', '.join(bad)} not finite in {self._not_finite.length} steps in a row: nothing is learned"
        zero = metrics.get(GRADIENT) == 0
        # A zero gradient of groups with equal rewards is as expected: it neither starts nor ends a streak.
        if not zero or self._jumped or not self._teaches_nothing(metrics):
            self._zero.count(step, zero)
        if self._jumped and not self._zero.length:
            # The gradient is not zero, so the weights were loaded well.
            self._jumped = None
        limit = self.options.zero_gradient_steps
        if not limit or self._zero.length < limit:
            return None
        problem = f"the gradient has been exactly zero in {self._zero.length} steps in a row"
        if self._jumped:
            return f"{problem}, ever since the resume, at which {self._jumped}: the checkpoint is most likely damaged"
        return f"{problem} although rewards differ: nothing is learned"

    def _warnings(self, step: int, metrics: Mapping[str, Any]) -> list[str]:
        lines = []
        gradient, norms = _value(metrics, GRADIENT), [norm for norm in _values(self._recent, GRADIENT) if norm > 0]
        if gradient is not None and len(norms) >= SPIKE_STEPS and gradient > SPIKE * (usual := median(norms)):
            lines.append(f"step {step}: gradient norm {gradient:.3g}, usually {usual:.3g}")
        difference, limit = metrics.get(PROB_DIFF), self.options.probability_gap
        # Not `difference > limit`, which is false for nan.
        if self._prob_diff.count(step, difference is not None and not difference <= limit):
            lines.append(
                f"step {step}: rollout/train prob diff {difference:.3g}, more than longrl.watch.probability_gap = "
                f"{limit:g}: vLLM and the trainer compute different functions (precision, RoPE scaling, attention "
                "backend)"
            )
        if self._equal.count(step, self._teaches_nothing(metrics)):
            lines.append(
                f"step {step}: the rewards within every group have been equal in {self._equal.length} steps in a row, "
                "so nothing was learned from them: too easy, too hard, or a reward that sees no difference. "
                "algorithm.filter_groups.enable=true replaces such groups"
            )
        return lines

    def _jump(self, metrics: Mapping[str, Any]) -> str | None:
        """The metrics far outside of the recent steps' range, with numbers, or None."""
        jumps = []
        rows = [*self._recent, metrics]
        # Between the best and the worst rollout of the recent steps; 1 where neither is known.
        spread = max(_values(rows, BEST), default=1.0) - min(_values(rows, WORST), default=0.0)
        for name, label in ((REWARD, "reward"), (ENTROPY, "entropy"), (GRADIENT, "gradient norm")):
            now, before = _value(metrics, name), _values(self._recent, name)
            if now is None or len(before) < 2:
                continue
            if name == REWARD:
                outside = _outside(now, before, JUMP_SHARE * spread)
            else:
                # Entropy and gradient norm vary by factors. Zeros, of steps with equal rewards, have no logarithm.
                logs = [math.log(value) for value in before if value > 0]
                # A factor of 27 with two known steps, of 3.7 with twenty.
                margin = math.log(JUMP_FACTOR) * (1 + 4 / max(len(logs), 1))
                outside = now > 0 and len(logs) >= 2 and _outside(math.log(now), logs, margin)
            if outside:
                last = before[-1]
                jumps.append(f"{label} {now:.3g} after {last:.3g} ({min(before):.3g} to {max(before):.3g} before)")
        return ", ".join(jumps) or None

    def _teaches_nothing(self, metrics: Mapping[str, Any]) -> bool:
        return self._grouped and metrics.get(ZERO_VARIANCE) == 1


def _outside(value: float, before: list[float], margin: float) -> bool:
    # Values of 0.4 to 0.5 before and a margin of 0.2: below 0.1 and above 0.8 is outside.
    low, high = min(before), max(before)
    return not low - (high - low) - margin <= value <= high + (high - low) + margin


def _value(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if value is not None and math.isfinite(value) else None


def _values(rows: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """The finite values of a metric."""
    return [value for row in rows if (value := _value(row, name)) is not None]
