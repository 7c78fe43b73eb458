"""Apply the rules of a benchmark in a process that is ended when a rule hangs or needs too much memory.

Rules read texts of any length that a model wrote, and may be a user's own (MODULE:ATTRIBUTE). One that does not return
must not take the scores of all other answers with it: its answer has no score under this rule, with the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from verl_longrl.rewards.isolation import cpu_deadline

from recipe.longrl.evaluation.catalog import find_benchmark
from recipe.longrl.evaluation.records import Outcome, Row

RULE_S = 20.0
"""CPU seconds that one rule may take for one answer. The worst answers of our own rules take 5 s."""
GIVE_UP_AFTER = 3
"""Answers at which a rule may be ended; then it is applied to no further answer of the set."""
BATCH = 16
"""Answers in one call of the process."""
LONGEST_PARSED = 1000
"""Characters of a parsed answer in scores.jsonl; answers.jsonl has the whole text."""

Applied = dict[str, Outcome | str]
"""By rule: its outcome, or why it has none."""


class RuleRunner:
    """Applies all rules of one benchmark. benchmark: its name, or MODULE:ATTRIBUTE."""

    def __init__(self, benchmark: str) -> None:
        self.benchmark = benchmark
        self._ended: Counter[str] = Counter()

    def apply(self, answers: Sequence[tuple[str, Row]]) -> list[Applied]:
        """The outcomes of some answers, (text, row) each, in their order. Never raises for an answer or a rule."""
        if not answers:
            return []
        try:
            return self._run(answers, self._rules())
        except (cpu_deadline.CpuDeadlineError, RuntimeError):
            # Which rule and answer it was is found out by applying them one by one.
            return [self._apply_one_by_one(*answer) for answer in answers]

    def _rules(self) -> list[str]:
        return [rule for rule in find_benchmark(self.benchmark).rules if self._ended[rule] < GIVE_UP_AFTER]

    def _apply_one_by_one(self, text: str, row: Row) -> Applied:
        applied: Applied = {}
        for rule in self._rules():
            try:
                (outcomes,) = self._run([(text, row)], [rule])
                applied[rule] = outcomes[rule]
            except cpu_deadline.CpuDeadlineError as error:
                self._ended[rule] += 1
                applied[rule] = f"{error} (limit {RULE_S:g} s of CPU time)"
            except RuntimeError as error:
                self._ended[rule] += 1
                applied[rule] = str(error)
        return self._with_given_up(applied)

    def _run(self, answers: Sequence[tuple[str, Row]], rules: Sequence[str]) -> list[Applied]:
        replies = cpu_deadline.run(apply_rules, self.benchmark, answers, rules, seconds=RULE_S)
        return [self._with_given_up({rule: _read(reply[rule]) for rule in rules}) for reply in replies]

    def _with_given_up(self, applied: Applied) -> Applied:
        reason = f"not applied any more, after it was ended at {GIVE_UP_AFTER} answers"
        return {rule: applied.get(rule, reason) for rule in find_benchmark(self.benchmark).rules}


def apply_rules(benchmark: str, answers: Sequence[tuple[str, Row]], rules: Sequence[str]) -> list[dict[str, Any]]:
    """For each answer, the outcomes of these rules as JSON values: [score, parsed, parts], or the error as a text."""
    of_benchmark = find_benchmark(benchmark).rules
    return [{rule: _apply(of_benchmark[rule], text, row) for rule in rules} for text, row in answers]


def _apply(rule: Any, text: str, row: Row) -> list[Any] | str:
    try:
        outcome: Outcome = rule(text, row)
        score = float(outcome.score)
        if not (math.isfinite(score) and 0 <= score <= 1):
            return f"score = {score}: expected a number from 0 to 1"
        parts = {str(name): float(part) for name, part in outcome.parts.items()}
        return [score, str(outcome.parsed)[:LONGEST_PARSED], parts]
    except MemoryError:
        return "needed too much memory (MemoryError)"
    except Exception as error:  # noqa: BLE001  the boundary: a rule may be anybody's code
        return f"{type(error).__name__}: {error}"[:LONGEST_PARSED]


def _read(reply: list[Any] | str) -> Outcome | str:
    return reply if isinstance(reply, str) else Outcome(*reply)


def scores_of(applied: Mapping[str, Outcome | str]) -> tuple[dict[str, Outcome], dict[str, str]]:
    """(outcome of each rule, reason of each rule that has none); such a rule's outcome is the score 0."""
    failed = {rule: reason for rule, reason in applied.items() if isinstance(reason, str)}
    return {rule: Outcome(0.0) if isinstance(each, str) else each for rule, each in applied.items()}, failed
