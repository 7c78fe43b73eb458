"""Join a set's planned rows with the answers in its log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recipe.longrl.evaluation.log import OutcomeReader
from recipe.longrl.evaluation.plan import (
    ANSWERS,
    Message,
    SetPlan,
    follow_up_messages,
    iterate_entries,
    read_row,
    request_digest,
)
from recipe.longrl.evaluation.records import Row


@dataclass(frozen=True)
class PlannedAnswer:
    """One planned answer: the row's entry in rows.jsonl, and the outcome that is scored, if there is one yet."""

    entry: Mapping[str, Any]
    row: Row
    sample: int
    key: str
    """The key of the request whose answer is scored; of the first one while that is not answered."""
    first: Mapping[str, Any] | None
    """The first answer, where the row has a second request."""
    answer: Mapping[str, Any] | None
    error: str | None
    """Why there is no answer."""

    @property
    def second_request(self) -> tuple[list[Message], int]:
        """Messages and longest answer of the second request, for a row that has a first answer."""
        assert self.row.follow_up is not None
        assert self.first is not None
        return follow_up_messages(self.row.follow_up, self.first["text"]), self.entry["follow_up"][1]


def iterate_answers(plan: SetPlan) -> Iterator[PlannedAnswer]:
    """All planned answers in the order of the plan, with one row and one answer in memory."""
    reader = OutcomeReader(plan.folder / ANSWERS)
    try:
        for entry in iterate_entries(plan.folder):
            row = read_row(entry)
            for sample in range(plan.record["repeats"]):
                yield _find_answer(plan, entry, row, sample, reader)
    finally:
        reader.close()


def _find_answer(
    plan: SetPlan, entry: Mapping[str, Any], row: Row, sample: int, reader: OutcomeReader
) -> PlannedAnswer:
    key = plan.request_key(entry["request"], sample)
    first, answer = None, reader.answer(key)
    if answer is not None and row.follow_up is not None:
        first = answer
        asked = request_digest(follow_up_messages(row.follow_up, first["text"]), entry["follow_up"][1])
        key = plan.request_key(asked, sample)
        answer = reader.answer(key)
    return PlannedAnswer(entry, row, sample, key, first, answer, reader.errors.get(key))
