"""What a run's numbers say: that it is broken, or that somebody should look.

verl skips an update whose gradient norm is not finite with a line in the log, and goes on for ever. A checkpoint
that was damaged on the disk loads without a word. Neither is an error anywhere, but both are in the numbers of each
step, so these are watched:

- broken, the run ends without saving: gradient norm or loss not finite in several steps in a row; gradients exactly
  zero for long although rewards differ, or ever since a resume at which the numbers jumped;
- a line: numbers that jump at a resume, a gradient norm far above its median, a gap between the probabilities of
  rollout and trainer, equal rewards within every group for long (where the group filter does not replace them).

While a step may be the first of a broken run, its checkpoint does not count (`in_doubt`), so that the good ones are
not rotated away. Weights that are not finite are refused when a checkpoint is written (`finite_weights.py`).
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass as option_group

from verl_longrl.options import Options, Share

FINITE = ("actor/grad_norm", "actor/loss", "actor/pg_loss", "critic/grad_norm", "critic/vf_loss")
GRADIENT, REWARD, ENTROPY = "actor/grad_norm", "reward/score", "actor/entropy"
BEST, WORST = "critic/score/max", "critic/score/min"
GAP, EQUAL = "training/rollout_probs_diff_mean", "group/no_signal"
RECENT = 20
"""Steps that the next one is compared with."""
SPIKE = 10.0
"""Times its median of the recent steps, a gradient norm is worth a line; with at least `SPIKE_STEPS` of them."""
SPIKE_STEPS = 5
JUMP_SHARE, JUMP_FACTOR = 0.25, 3.0
"""A number jumps when it leaves the range of the recent steps by more than the range's own width, and by more than this
share of the distance between the best and the worst rollout (rewards) or this factor (entropy and gradient norm, which
are compared as logarithms; a larger one while few steps are known)."""


@option_group(frozen=True)
class WatchOptions(Options):
    """What each step's numbers are watched for."""

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
    """Steps in a row of which something is true; it is told at `first` of them, then at twice as many each time."""

    first: int = 1
    since: int | None = None
    length: int = 0
    _told: int = 0

    def goes_on(self, step: int, holds: bool) -> bool:
        """Count a step; whether this is one to tell of."""
        if not holds:
            self.since, self.length, self._told = None, 0, 0
            return False
        self.since = step if self.since is None else self.since
        self.length += 1
        due = self.first > 0 and self.length >= max(self.first, 2 * self._told)
        self._told = self.length if due else self._told
        return due


class Health:
    """Fed with each step's metrics. `remember` what earlier starts of the run wrote, then `look` at each step.

    grouped: rollouts are compared within their group, so that equal rewards there teach nothing.
    """

    def __init__(self, options: WatchOptions, grouped: bool = True) -> None:
        self.options, self._grouped = options, grouped
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)
        self._resumed_from: int | None = None
        self._jumped: str | None = None
        self._not_finite, self._zero = _Streak(), _Streak()
        self._equal, self._gap = _Streak(options.equal_reward_steps), _Streak()

    def remember(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """The run is resumed after `step`; rows: the metrics of its steps until then, oldest first."""
        for row in rows:
            self._recent.append(row)
            self._equal.goes_on(int(row.get("step", step)), self._teaches_nothing(row))
        self._resumed_from = step

    def look(self, step: int, metrics: Mapping[str, Any]) -> tuple[list[str], str | None]:
        """Lines for people, and why the run is broken, or None."""
        lines = []
        if self._resumed_from is not None and step == self._resumed_from + 1:
            self._jumped = self._jump(metrics)
            if self._jumped:
                lines.append(f"step {step}, the first since the resume, is not like those before it: {self._jumped}")
        broken = self._broken(step, metrics, lines)
        lines += self._worth_a_line(step, metrics)
        self._recent.append(metrics)
        return lines, broken

    @property
    def in_doubt(self) -> str | None:
        """Why a checkpoint of now should not count, or None."""
        if self._not_finite.length and self.options.not_finite_steps:
            return f"gradient norm or loss is not finite since step {self._not_finite.since}"
        if self._zero.length and self.options.zero_gradient_steps:
            return f"the gradient is zero since step {self._zero.since}"
        return None

    @property
    def sound_until(self) -> int | None:
        """The last step whose weights nothing speaks against; None: all of them."""
        if self._not_finite.since is not None:
            return self._not_finite.since - 1
        if self._zero.since is None:
            return None
        return self._zero.since - (2 if self._jumped else 1)  # with a jump, what was loaded is what is doubted

    def _broken(self, step: int, metrics: Mapping[str, Any], lines: list[str]) -> str | None:
        bad = [name for name in FINITE if name in metrics and _value(metrics, name) is None]
        limit = self.options.not_finite_steps
        if self._not_finite.goes_on(step, bool(bad)):
            ends = f" (of {limit} in a row that end the run)" if limit else ""
            lines.append(f"step {step}: {', '.join(bad)} not finite, step {self._not_finite.length}{ends}")
        if limit and self._not_finite.length >= limit:
            return f"{', '.join(bad)} not finite in {self._not_finite.length} steps in a row: nothing is learned"
        zero = metrics.get(GRADIENT) == 0
        if not zero or self._jumped or not self._teaches_nothing(metrics):  # else it neither says so nor the contrary
            self._zero.goes_on(step, zero)
        if self._jumped and not self._zero.length:
            self._jumped = None  # it learns
        limit = self.options.zero_gradient_steps
        if not limit or self._zero.length < limit:
            return None
        found = f"the gradient has been exactly zero in {self._zero.length} steps in a row"
        if self._jumped:
            return f"{found}, ever since the resume, at which {self._jumped}: what was loaded is most likely damaged"
        return f"{found} although rewards differ: nothing is learned"

    def _worth_a_line(self, step: int, metrics: Mapping[str, Any]) -> list[str]:
        lines = []
        gradient, norms = _value(metrics, GRADIENT), [norm for norm in _values(self._recent, GRADIENT) if norm > 0]
        if gradient is not None and len(norms) >= SPIKE_STEPS and gradient > SPIKE * (usual := median(norms)):
            lines.append(f"step {step}: gradient norm {gradient:.3g}, usually {usual:.3g}")
        gap = metrics.get(GAP)
        if self._gap.goes_on(step, gap is not None and not gap <= self.options.probability_gap):
            lines.append(
                f"step {step}: rollouts and trainer give tokens probabilities {gap:.3g} apart on average, more than "
                f"longrl.watch.probability_gap = {self.options.probability_gap:g}: they compute different functions "
                "(precision, RoPE scaling, attention backend)"
            )
        if self._equal.goes_on(step, self._teaches_nothing(metrics)):
            lines.append(
                f"step {step}: the rewards within every group have been equal in {self._equal.length} steps in a row, "
                "so nothing was learned of them: too easy, too hard, or a reward that sees no difference. "
                "algorithm.filter_groups.enable=true replaces such groups"
            )
        return lines

    def _jump(self, metrics: Mapping[str, Any]) -> str | None:
        """What is far outside of the recent steps' range, with the numbers, or None."""
        found = []
        rows = [*self._recent, metrics]
        spread = max(_values(rows, BEST), default=1.0) - min(_values(rows, WORST), default=0.0)
        for name, called in ((REWARD, "reward"), (ENTROPY, "entropy"), (GRADIENT, "gradient norm")):
            now, before = _value(metrics, name), _values(self._recent, name)
            if now is None or len(before) < 2:
                continue
            if name == REWARD:
                outside = _outside(now, before, JUMP_SHARE * spread)
            else:  # zero where all rewards are equal
                logs = [math.log(value) for value in before if value > 0]
                margin = math.log(JUMP_FACTOR) * (1 + 4 / max(len(logs), 1))
                outside = now > 0 and len(logs) >= 2 and _outside(math.log(now), logs, margin)
            if outside:
                last = before[-1]
                found.append(f"{called} {now:.3g} after {last:.3g} ({min(before):.3g} to {max(before):.3g} before)")
        return ", ".join(found) or None

    def _teaches_nothing(self, metrics: Mapping[str, Any]) -> bool:
        return self._grouped and metrics.get(EQUAL) == 1


def _outside(value: float, before: list[float], margin: float) -> bool:
    low, high = min(before), max(before)
    return not low - (high - low) - margin <= value <= high + (high - low) + margin


def _value(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if value is not None and math.isfinite(value) else None


def _values(rows: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """The finite ones."""
    return [value for row in rows if (value := _value(row, name)) is not None]
