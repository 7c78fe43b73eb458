"""Which answers are judged, and the verdicts in the kept replies of a judge. No server is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from recipe.longrl.evaluation.judge.protocols import PROTOCOLS, Question
from recipe.longrl.evaluation.log import OutcomeReader, digest
from recipe.longrl.evaluation.records import Judging, Outcome, Row
from recipe.longrl.evaluation.rules.reading import golds_of, question_of

JUDGES = "judges.json"
Decision = Literal["right", "wrong", "undecided", "no reply", "by rule"]
"""undecided: the judge replied, but not with a verdict. no reply: the request failed, or was not sent yet."""
DECIDED: tuple[Decision, ...] = ("right", "wrong")


class Verdict(NamedTuple):
    """A judge's decision on one answer."""

    decision: Decision
    cut: tuple[str, ...] = ()
    """The texts of the question that the judge saw in part only, such as "candidate"."""


BY_RULE = Verdict("by rule")


@dataclass(frozen=True)
class JudgeRecord:
    """A judge as it is pinned."""

    values: dict[str, Any]
    """Model, revision, server version, prompt and its hash, temperature, limits."""

    @cached_property
    def id(self) -> str:
        return digest(self.values)[:12]

    @property
    def figure(self) -> str:
        """The name of the judged figure. It has the judge's ID, so figures of different judges never meet."""
        return f"judged by {self.values['model']} ({self.id[:6]})"

    def log(self, folder: Path) -> Path:
        return folder / f"judgements-{self.id}.jsonl"

    def key(self, question: Question) -> str:
        """The key of a question in the log."""
        return digest([self.id, *question])

    def read_reply(self, reply: Mapping[str, Any]) -> Verdict:
        """The verdict of a line of the log that is not a failure."""
        right = PROTOCOLS[self.values["prompt"]].read(reply["text"], reply["mark"], reply["finish_reason"])
        return Verdict("undecided" if right is None else "right" if right else "wrong", tuple(reply["cut"]))


class VerdictReader:
    """Reads the verdicts of one judge by question."""

    def __init__(self, judge: JudgeRecord, path: Path) -> None:
        self.judge, self.replies = judge, OutcomeReader(path)

    def verdict(self, question: Question | None) -> Verdict:
        """The judge's verdict; None is an answer that the rule has decided, or that failed."""
        if question is None:
            return BY_RULE
        reply = self.replies.answer(self.judge.key(question))
        return Verdict("no reply") if reply is None else self.judge.read_reply(reply)


def open_question(row: Row, text: str, outcome: Outcome, judging: Judging) -> Question | None:
    """The question that a rule leaves open; None where it decides. outcome: that of the deciding rule on `text`."""
    candidate = judging.candidate(text)
    if outcome.score == 1 or outcome.parts.get("decided") == 1 or not candidate.strip():
        return None
    return Question(question_of(row), " | ".join(golds_of(row)), candidate)


def read_judges(folder: Path) -> list[JudgeRecord]:
    """The judges of a set's last run."""
    path = folder / JUDGES
    return [JudgeRecord(values) for values in json.loads(path.read_text())] if path.is_file() else []


@contextmanager
def open_verdicts(folder: Path, judges: list[JudgeRecord]) -> Iterator[list[VerdictReader]]:
    """A reader for each judge of a set."""
    readers = [VerdictReader(judge, judge.log(folder)) for judge in judges]
    try:
        yield readers
    finally:
        for reader in readers:
            reader.replies.close()
