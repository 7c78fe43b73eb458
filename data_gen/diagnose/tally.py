"""Count pass rates and failure modes in one pass over any number of prompts.

The pass rate of a prompt is the mean reward of its responses' answers, without those that have no score. The pass rate
of several prompts is the mean of theirs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pvariance
from typing import Any

from verl_longrl.data.progress import Advance

from data_gen.diagnose.failure_modes import RIGHT, failure_mode
from data_gen.diagnose.sources import Answered

EXAMPLES = 3
"""Example prompts to keep for each failure mode of a task."""
UNKNOWN = "unknown"


def learnable(answers: Sequence[float]) -> float:
    """How much can be learned from a prompt whose responses earn these rewards, in [0, 1]: 27/4 v (1 - p), with their
    mean p and variance v. It is 0 if all rewards are equal, because then all advantages are 0. Of two prompts with the
    same variance, the one that fails more often counts more. With rewards of 0 and 1, v is p (1 - p), and the maximum
    of 1 is at p = 1/3."""
    return 27 / 4 * pvariance(answers) * (1 - fmean(answers))


@dataclass
class PromptStats:
    """Counts and sums over several prompts. rates, learnable: sums, to be divided by `prompts`."""

    prompts: int = 0
    unscored: int = 0
    rates: float = 0.0
    learnable: float = 0.0
    solved: int = 0
    unsolved: int = 0

    def add(self, answers: Sequence[float]) -> None:
        """Count a prompt with these rewards of its scored responses."""
        if not answers:
            self.unscored += 1
            return
        self.prompts += 1
        self.rates += fmean(answers)
        self.learnable += learnable(answers)
        self.solved += min(answers) >= RIGHT
        self.unsolved += max(answers) <= 0

    def row(self) -> dict[str, Any]:
        """prompts (with a score), pass_rate, learnable (means; None without prompts), solved (always right), unsolved
        (never any reward), unscored (no response has a score)."""
        return {
            "prompts": self.prompts,
            "pass_rate": self.rates / self.prompts if self.prompts else None,
            "learnable": self.learnable / self.prompts if self.prompts else None,
            "solved": self.solved,
            "unsolved": self.unsolved,
            "unscored": self.unscored,
        }


@dataclass
class Tally:
    """All prompts by task, length, difficulty, and task and length; responses by task and mode, with example ids."""

    by_task: defaultdict[str, PromptStats] = field(default_factory=lambda: defaultdict(PromptStats))
    by_length: defaultdict[int | None, PromptStats] = field(default_factory=lambda: defaultdict(PromptStats))
    by_difficulty: defaultdict[str, PromptStats] = field(default_factory=lambda: defaultdict(PromptStats))
    by_task_length: defaultdict[tuple[str, int | None], PromptStats] = field(
        default_factory=lambda: defaultdict(PromptStats)
    )
    modes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: defaultdict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, prompts: Iterable[Answered], advance: Advance) -> None:
        """Count all of these prompts."""
        for prompt in prompts:
            advance()
            answers = [response.answer for response in prompt.responses if response.answer is not None]
            length = length_bin(prompt.tokens)
            for stats in (
                self.by_task[prompt.task],
                self.by_length[length],
                self.by_difficulty[prompt.difficulty or UNKNOWN],
                self.by_task_length[prompt.task, length],
            ):
                stats.add(answers)
            modes = Counter(map(failure_mode, prompt.responses))
            self.modes[prompt.task] += modes
            for name in modes:
                examples = self.examples[prompt.task, name]
                if len(examples) < EXAMPLES:
                    examples.append(prompt.id)


def length_bin(tokens: int | None) -> int | None:
    """The lower bound of a prompt's bin: a power of two, or 0 for less than 1,024 tokens; None if unknown."""
    if tokens is None:
        return None
    return 1 << (tokens.bit_length() - 1) if tokens >= 1024 else 0


def length_name(low: int | None) -> str:
    """The name of a bin: 4K-8K is 4,096 to 8,191 tokens."""
    if low is None:
        return UNKNOWN
    return f"{low // 1024}K-{low // 512}K" if low else "<1K"
