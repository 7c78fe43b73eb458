"""Stage verify: of what a model wrote, that which another one confirms.

GoLongRL's verification of written pairs (arXiv 2605.19577, pipeline, phase 3), each by what its reward measures:

- questions are asked without the text; what is known then is dropped (`known`). Then with it, as training will ask
  them, and enough of the answers must be right (`disagreed`): by the reward, or for short answers, when that says no,
  by a judge that reads the evidence;
- each reference summary is rated for coverage and faithfulness; those with a low rating are left out, and a sample of
  which none is left is dropped (`low_rating`).

What no server answered, or nobody could grade, confirms nothing (`unanswered`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from verl_longrl.rewards import JudgeError, score
from verl_longrl.rewards.matching.response_format import parse_lines
from verl_longrl.rewards.options import Options, number

from data_gen.grading import Grader, ratings
from data_gen.llm import LLMOptions, Messages, RequestFailed, check_sampling
from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import AskingStage
from data_gen.multitask import prompts
from data_gen.multitask.compose import ComposeOptions
from data_gen.multitask.computed_tasks import data_source
from data_gen.multitask.samples import passages_shown, prompt_of
from data_gen.multitask.written_tasks import writing_brief
from data_gen.store import Document, Row
from data_gen.text import derive_seed

CRITERIA = ("coverage", "faithfulness")
_RATING_SCHEMA = writing_brief.object_schema(
    remark=writing_brief.TEXT, **{name: {"type": "number"} for name in CRITERIA}
)


@dataclass(frozen=True)
class VerifyOptions(Options):
    """server: which of `servers` answers and rates; name another model than the one that writes ("": that one). grader:
    which one grades short answers ("": the one that answers). samples, closed_book: answers with and without the text
    (0: not asked). agree: share of right answers with the text, at least. known: share without it from which a question
    is known; guessing an option is right a quarter of the time. min_rating: of a summary, from 0 to 10 (0: not rated).
    attempts: replies asked for until a rating can be read. The others: sampling."""

    server: str = ""
    grader: str = ""
    samples: int = 3
    closed_book: int = 3
    agree: float = 0.5
    known: float = 0.5
    min_rating: float = 7.0
    attempts: int = 3
    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        for name, low in (("samples", 0), ("closed_book", 0), ("attempts", 1)):
            number(f"verify.{name}", getattr(self, name), low, whole=True)
        number("verify.agree", self.agree, 0, 1, open_low=True)
        number("verify.known", self.known, 0, 1, open_low=True)
        number("verify.min_rating", self.min_rating, 0, 10)
        check_sampling("verify", self)

    def servers(self, writer: str) -> dict[str, str]:
        """The keys that name servers, and whom they name, where `writer` writes; none where nobody does."""
        server = self.server or writer
        return {"verify.server": server, "verify.grader": self.grader or server} if writer else {}


class Verify(AskingStage):
    """Row: `samples`, those of stage write that are confirmed, with `checked`: the shares of right answers `with_text`
    and `closed_book`, or `ratings`; and `rejected`, the others, each with `status` too. The counts are by task and
    status."""

    name = "verify"
    structured = True
    after = ("ingest", "write")

    def __init__(
        self,
        options: VerifyOptions,
        compose: ComposeOptions,
        writer: str,
        servers: dict[str, LLMOptions],
        seed: int,
    ):
        super().__init__(servers)
        self.options, self.compose, self.writer, self.seed = options, compose, writer, seed
        self.server, self.judge = options.servers(writer).values() if writer else ("", "")
        self.grader = Grader(options.max_tokens, seed)

    def wanted(self) -> bool:
        return bool(self.writer)

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, **self.named(self.options), **self.server_settings()}

    async def row(self, document: Document) -> Row:
        name, written = document["ingest"]["id"], document["write"]["samples"]
        found = await asyncio.gather(*(self._verify(document, sample, n) for n, sample in enumerate(written)))
        rejected = [sample for sample in found if "status" in sample]
        samples = [sample for sample in found if "status" not in sample]
        counts = Counter(sample["task"] for sample in samples)
        counts.update(f"{sample['task']}: {sample['status']}" for sample in rejected)
        return {"id": name, "samples": samples, "rejected": rejected, "counts": counts}

    async def _verify(self, document: Document, sample: Row, n: int) -> Row:
        key = (self.seed, "verify", document["ingest"]["id"], n)
        check = self._rated if sample["task"] == "summary" else self._answered
        return sample | await check(document, sample, key)

    async def _answered(self, document: Document, sample: Row, key: tuple[object, ...]) -> Row:
        """Whether a question needs its text, and has the answer that it says it has."""
        asked = f"{prompts.CLOSED_BOOK}\n\n{sample['question']}\n\n{sample['answer_as']}"
        ways: dict[str, tuple[Messages, int]] = {
            "closed_book": ([{"role": "user", "content": asked}], self.options.closed_book),
            "with_text": (prompt_of(document, sample, self.compose), self.options.samples),
        }
        checked: dict[str, float | None] = {}
        for way, (prompt, answers) in ways.items():
            if answers:
                checked[way] = await self._share(prompt, sample, answers, (*key, way))
                if status := self._objection(way, checked[way]):
                    return {"checked": checked, "status": status}
        return {"checked": checked}

    def _objection(self, way: str, share: float | None) -> str:
        """What this share of right answers says against a question, "" for nothing."""
        if share is None:
            return "unanswered"
        if way == "closed_book":
            return "known" if share >= self.options.known else ""
        return "disagreed" if share < self.options.agree else ""

    async def _share(self, prompt: Messages, sample: Row, answers: int, key: tuple[object, ...]) -> float | None:
        """The share of right answers; None when fewer than half of them could be had and graded."""
        found = await asyncio.gather(*(self._is_right(prompt, sample, (*key, n)) for n in range(answers)))
        graded = [right for right in found if right is not None]
        return sum(graded) / len(graded) if 2 * len(graded) >= answers else None

    async def _is_right(self, prompt: Messages, sample: Row, key: tuple[object, ...]) -> bool | None:
        try:
            reply = await self.llms[self.server].chat(
                prompt,
                max_tokens=self.options.max_tokens,
                temperature=self.options.temperature,
                top_p=self.options.top_p,
                seed=derive_seed(*key),
            )
            if reply.finish_reason == "length":  # so it would be in training
                return False
            if score(data_source(sample["task"]), reply.text, sample["gold"]).value == 1.0:
                return True
            if sample["task"] != "qa":
                return False
            line = next(iter(parse_lines(reply.text).answer), "")
            evidence, judge = "\n".join(sample["evidence"]), self.llms[self.judge]
            return await self.grader.is_right(judge, sample["question"], sample["gold"], line, evidence)
        except (RequestFailed, JudgeError):
            return None

    async def _rated(self, document: Document, sample: Row, key: tuple[object, ...]) -> Row:
        """The reference summaries that are rated high enough."""
        if not self.options.min_rating:
            return {}
        passages = passages_shown(document, sample, self.compose)
        found = await asyncio.gather(*(self._rating(passages, sample, text, key) for text in sample["gold"]))
        rated = [rating for rating in found if rating]
        good = [
            text
            for text, rating in zip(sample["gold"], found, strict=True)
            if rating and min(rating.values()) >= self.options.min_rating
        ]
        if not good:
            return {"checked": {"ratings": found}, "status": "low_rating" if rated else "unanswered"}
        return {"gold": good, "checked": {"ratings": found}}

    async def _rating(
        self, passages: list[str], sample: Row, text: str, key: tuple[object, ...]
    ) -> dict[str, float] | None:
        """One summary's ratings, None when they could not be had."""
        try:
            return await self.ask_json(
                self.server,
                prompts.instruction_messages(
                    passages, prompts.RATE_SUMMARY.format(question=sample["question"], summary=text)
                ),
                lambda found: ratings(found, CRITERIA),
                schema=_RATING_SCHEMA,
                keys=CRITERIA,
                attempts=self.options.attempts,
                key=(*key, text),
                max_tokens=self.options.max_tokens,
                temperature=self.options.temperature,
                top_p=self.options.top_p,
            )
        except BrokenRule:
            return None
