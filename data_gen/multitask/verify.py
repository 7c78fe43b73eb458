"""Stage verify: keep the written samples that another model confirms.

GoLongRL's verification of written pairs (arXiv 2605.19577, pipeline, phase 3), by what the reward of each task
measures:

- a question is first answered without the text, and dropped if it is known without it (`known`). Then it is answered
  with the text, as in training, and dropped unless enough answers are right (`disagreed`). An answer is right if the
  reward says so; for short answers also if a judge that reads the evidence says so;
- each reference summary is rated for coverage and faithfulness. Summaries with a low rating are left out, and a sample
  without any other is dropped (`low_rating`).

A sample that most requests failed to answer or grade is dropped (`unanswered`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, ClassVar, Self

from annotated_types import Ge, Gt, Le
from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.rewards import JudgeError, score
from verl_longrl.rewards.matching.response_format import parse_lines

from data_gen.config import PipelineConfig
from data_gen.grading import Grader, read_ratings
from data_gen.llm import LLMOptions, Messages, RequestFailed
from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import LLMStage
from data_gen.multitask import prompts
from data_gen.multitask.compose import TaskComposeOptions
from data_gen.multitask.computed_tasks import data_source
from data_gen.multitask.samples import passages_shown, prompt_of
from data_gen.multitask.written_tasks import writing_brief
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.sampling import NucleusSamplingOptions
from data_gen.store import Document, Row
from data_gen.text import derive_seed

CRITERIA = ("coverage", "faithfulness")
_RATING_SCHEMA = writing_brief.object_schema(
    remark=writing_brief.TEXT, **{name: {"type": "number"} for name in CRITERIA}
)


@dataclass(frozen=True)
class VerifyOptions(NucleusSamplingOptions):
    """Options of stage verify."""

    server: str = ""
    """The one of `servers` that answers and rates; "" for write.server. Another model than the writer is better."""
    grader: str = ""
    """The one of `servers` that grades short answers; "" for the one that answers."""
    samples: NonNegativeInt = 3
    """Answers with the text; 0 to skip this check."""
    closed_book: NonNegativeInt = 3
    """Answers without the text; 0 to skip this check."""
    agree: Annotated[float, Gt(0), Le(1)] = 0.5
    """Lowest share of right answers with the text."""
    known: Annotated[float, Gt(0), Le(1)] = 0.5
    """Share of right answers without the text at which a question counts as known. (A guess among four options is right
    a quarter of the time.)"""
    min_rating: Annotated[float, Ge(0), Le(10)] = 7.0
    """Lowest rating of a summary, from 0 to 10; 0 to skip the rating."""
    attempts: PositiveInt = 3
    """Replies requested until a rating can be read."""
    max_tokens: PositiveInt = 8192

    def server_names(self, writer: str) -> dict[str, str]:
        """The configuration keys that name servers, with the names, if `writer` writes; {} if no server writes."""
        server = self.server or writer
        return {"verify.server": server, "verify.grader": self.grader or server} if writer else {}


class VerifyStage(LLMStage):
    """Row: `samples`, those of stage write that are confirmed, with `checked`: the shares of right answers `with_text`
    and `closed_book`, or `ratings`; and `rejected`, the others, which also have a `status`. The counts are by task and
    status."""

    name = "verify"
    summary = "have another one confirm what was written."
    blocks: ClassVar = {"verify": VerifyOptions}
    structured = True
    after = ("ingest", "write")

    options: VerifyOptions

    def __init__(
        self,
        options: VerifyOptions,
        compose: TaskComposeOptions,
        writer: str,
        servers: dict[str, LLMOptions],
        seed: int,
    ):
        super().__init__(options, servers, seed)
        self.compose, self.writer = compose, writer
        self.server, self.judge = options.server_names(writer).values() if writer else ("", "")
        self.grader = Grader(options.max_tokens, seed)

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options, writer = config.block(VerifyOptions), config.block(WriteOptions).server
        servers = config.named_servers(options.server_names(writer))
        return cls(options, config.block(TaskComposeOptions), writer, servers, config.seed)

    def is_enabled(self) -> bool:
        return bool(self.writer)

    async def row(self, document: Document) -> Row:
        name, written = document["ingest"]["id"], document["write"]["samples"]
        checked = await asyncio.gather(*(self._verify(document, sample, n) for n, sample in enumerate(written)))
        rejected = [sample for sample in checked if "status" in sample]
        samples = [sample for sample in checked if "status" not in sample]
        counts = Counter(sample["task"] for sample in samples)
        counts.update(f"{sample['task']}: {sample['status']}" for sample in rejected)
        return {"id": name, "samples": samples, "rejected": rejected, "counts": counts}

    async def _verify(self, document: Document, sample: Row, n: int) -> Row:
        key = (self.seed, "verify", document["ingest"]["id"], n)
        check = self._rate_summaries if sample["task"] == "summary" else self._check_answer
        return sample | await check(document, sample, key)

    async def _check_answer(self, document: Document, sample: Row, key: tuple[object, ...]) -> Row:
        """Check that a question cannot be answered without its text, and has the claimed answer."""
        question = f"{prompts.CLOSED_BOOK}\n\n{sample['question']}\n\n{sample['answer_as']}"
        settings: dict[str, tuple[Messages, int]] = {
            "closed_book": ([{"role": "user", "content": question}], self.options.closed_book),
            "with_text": (prompt_of(document, sample, self.compose), self.options.samples),
        }
        checked: dict[str, float | None] = {}
        for setting, (prompt, answers) in settings.items():
            if answers:
                checked[setting] = await self._right_share(prompt, sample, answers, (*key, setting))
                if status := self._objection(setting, checked[setting]):
                    return {"checked": checked, "status": status}
        return {"checked": checked}

    def _objection(self, setting: str, share: float | None) -> str:
        """The objection to a question with this share of right answers, "" for none."""
        if share is None:
            return "unanswered"
        if setting == "closed_book":
            return "known" if share >= self.options.known else ""
        return "disagreed" if share < self.options.agree else ""

    async def _right_share(self, prompt: Messages, sample: Row, answers: int, key: tuple[object, ...]) -> float | None:
        """The share of right answers; None if more than half of the requests or their grading failed."""
        verdicts = await asyncio.gather(*(self._is_right(prompt, sample, (*key, n)) for n in range(answers)))
        graded = [verdict for verdict in verdicts if verdict is not None]
        return sum(graded) / len(graded) if 2 * len(graded) >= answers else None

    async def _is_right(self, prompt: Messages, sample: Row, key: tuple[object, ...]) -> bool | None:
        """Whether an answer is right; None if the request or its grading failed."""
        try:
            reply = await self.llms[self.server].chat(
                prompt,
                **self.options.sampling,
                seed=derive_seed(*key),
            )
            if reply.finish_reason == "length":
                # A truncated response earns nothing in training either.
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

    async def _rate_summaries(self, document: Document, sample: Row, key: tuple[object, ...]) -> Row:
        """The reference summaries that are rated high enough."""
        if not self.options.min_rating:
            return {}
        passages, summaries = passages_shown(document, sample, self.compose), sample["gold"]
        ratings = await asyncio.gather(*(self._request_rating(passages, sample, text, key) for text in summaries))
        good = [
            summary
            for summary, rating in zip(summaries, ratings, strict=True)
            if rating and min(rating.values()) >= self.options.min_rating
        ]
        if not good:
            return {"checked": {"ratings": ratings}, "status": "low_rating" if any(ratings) else "unanswered"}
        return {"gold": good, "checked": {"ratings": ratings}}

    async def _request_rating(
        self, passages: list[str], sample: Row, text: str, key: tuple[object, ...]
    ) -> dict[str, float] | None:
        """The ratings of one summary, None if no reply could be read."""
        try:
            return await self.ask_json(
                self.server,
                prompts.instruction_messages(
                    passages, prompts.RATE_SUMMARY.format(question=sample["question"], summary=text)
                ),
                lambda reply: read_ratings(reply, CRITERIA),
                schema=_RATING_SCHEMA,
                keys=CRITERIA,
                attempts=self.options.attempts,
                key=(*key, text),
                **self.options.sampling,
            )
        except BrokenRule:
            return None
