"""Pass rates and failure modes in numbers that add up, from one pass over any number of prompts.

A prompt's pass rate is the mean of what its responses' answers earn, those without a score left out; a group's pass
rate is the mean over its prompts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pvariance
from typing import Any

from verl_longrl.data.progress import Advance

from data_gen.diagnose.failure_modes import RIGHT, mode
from data_gen.diagnose.sources import Answered

EXAMPLES = 3
"""Ids that are kept of each failure mode of a task."""
UNKNOWN = "unknown"


def learnable(answers: Sequence[float]) -> float:
    """What there is to learn from a prompt whose responses earn this much, in [0, 1]: 27/4 v (1 - p), of mean p and
    variance v. Nothing where all earn the same, for then no advantage differs from 0; of two prompts with the same
    variance, the one that fails oftener has more to give. Where answers are right or wrong v is p (1 - p), and the most
    is at p = 1/3."""
    return 27 / 4 * pvariance(answers) * (1 - fmean(answers))


@dataclass
class Group:
    """Prompts counted together."""

    prompts: int = 0
    unscored: int = 0
    rates: float = 0.0
    learnable: float = 0.0
    solved: int = 0
    unsolved: int = 0

    def add(self, answers: Sequence[float]) -> None:
        """Count a prompt by what its scored responses earn."""
        if not answers:
            self.unscored += 1
            return
        self.prompts += 1
        self.rates += fmean(answers)
        self.learnable += learnable(answers)
        self.solved += min(answers) >= RIGHT
        self.unsolved += max(answers) <= 0

    def row(self) -> dict[str, Any]:
        """prompts (with a score), pass_rate, learnable (mean; both None without prompts), solved (always right),
        unsolved (never anything), unscored (no response has a score)."""
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

    by_task: defaultdict[str, Group] = field(default_factory=lambda: defaultdict(Group))
    by_length: defaultdict[int | None, Group] = field(default_factory=lambda: defaultdict(Group))
    by_difficulty: defaultdict[str, Group] = field(default_factory=lambda: defaultdict(Group))
    by_task_length: defaultdict[tuple[str, int | None], Group] = field(default_factory=lambda: defaultdict(Group))
    modes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: defaultdict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, prompts: Iterable[Answered], advance: Advance) -> None:
        """Count all of them."""
        for prompt in prompts:
            advance()
            answers = [response.answer for response in prompt.responses if response.answer is not None]
            length = length_bin(prompt.tokens)
            for group in (
                self.by_task[prompt.task],
                self.by_length[length],
                self.by_difficulty[prompt.difficulty or UNKNOWN],
                self.by_task_length[prompt.task, length],
            ):
                group.add(answers)
            modes = Counter(map(mode, prompt.responses))
            self.modes[prompt.task] += modes
            for name in modes:
                examples = self.examples[prompt.task, name]
                if len(examples) < EXAMPLES:
                    examples.append(prompt.id)


def length_bin(tokens: int | None) -> int | None:
    """The power of two from which a prompt's length counts, 0 for less than 1,024 tokens; None where it is unknown."""
    if tokens is None:
        return None
    return 1 << (tokens.bit_length() - 1) if tokens >= 1024 else 0


def length_name(low: int | None) -> str:
    """A bin for people: 4K-8K is 4,096 to 8,191 tokens."""
    if low is None:
        return UNKNOWN
    return f"{low // 1024}K-{low // 512}K" if low else "<1K"
