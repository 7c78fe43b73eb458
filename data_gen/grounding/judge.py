"""Stage judge: have a model that sees the chunks and the claimed evidence rate every candidate from 0 to 10.

LongRLVR's first rejection step needs a rating of clarity, correctness and necessity of the evidence (paper, data
section). The weights of the released rubric are not used: the judge rates each criterion and then the whole.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar, Self

from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from data_gen.config import PipelineConfig
from data_gen.grading import read_ratings
from data_gen.grounding import prompts
from data_gen.grounding.chunk import chunk_texts
from data_gen.llm import LLMOptions
from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import LLMStage
from data_gen.sampling import SamplingOptions
from data_gen.store import Document, Row, dropped_row


@dataclass(frozen=True)
class JudgeStageOptions(SamplingOptions):
    """Options of stage judge."""

    server: str = "default"
    """The one of `servers` that rates the candidates."""
    samples: PositiveInt = 1
    """Ratings of each candidate; their mean counts."""
    attempts: PositiveInt = 3
    """Replies requested until one can be read."""
    temperature: NonNegativeFloat = 0.1


class JudgeStage(LLMStage):
    """Row: `ratings`, one for each candidate whose status is "ok", in order: `cluster`, `candidate`, `score` (None when
    no rating could be read), the criteria, `remark`. Drops: unrated."""

    name = "judge"
    summary = "have a model rate the questions."
    blocks: ClassVar = {"judge": JudgeStageOptions}
    structured = True
    after = ("ingest", "chunk", "cluster", "generate")

    options: JudgeStageOptions

    def __init__(self, options: JudgeStageOptions, server: LLMOptions, seed: int):
        super().__init__(options, {options.server: server}, seed)

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options = config.block(JudgeStageOptions)
        return cls(options, config.server(options.server, "judge.server"), config.seed)

    async def row(self, document: Document) -> Row:
        texts, name = chunk_texts(document), document["generate"]["id"]
        candidates = [c for c in document["generate"]["candidates"] if c["status"] == "ok"]
        ratings = await asyncio.gather(*(self._rate(document, texts, candidate) for candidate in candidates))
        counts = Counter("candidates unrated" if r["score"] is None else "candidates rated" for r in ratings)
        if not counts["candidates rated"]:
            return {**dropped_row(name, "unrated", str(ratings[-1].get("remark", ""))), "counts": counts}
        return {"id": name, "ratings": ratings, "counts": counts}

    async def _rate(self, document: Document, texts: list[str], candidate: dict[str, Any]) -> dict[str, Any]:
        """The mean of a candidate's ratings."""
        requests = [self._request_rating(document, texts, candidate, n) for n in range(self.options.samples)]
        ids = {"cluster": candidate["cluster"], "candidate": candidate["candidate"]}
        return ids | mean_rating(await asyncio.gather(*requests))

    async def _request_rating(
        self, document: Document, texts: list[str], candidate: dict[str, Any], number: int
    ) -> dict[str, Any]:
        """One rating; if there is none, only a `remark` with the reason."""
        cluster = document["cluster"]["clusters"][candidate["cluster"]]
        evidence = [cluster.index(i) for i in candidate["evidence"]]
        shown = [texts[i] for i in cluster]
        messages = prompts.rating_prompt(shown, candidate["question"], candidate["answer"], evidence)
        key = (document["generate"]["id"], candidate["cluster"], candidate["candidate"], number)
        try:
            return await self.ask_json(
                self.options.server,
                messages,
                read_rating,
                schema=prompts.RATING_SCHEMA,
                keys=("score", *prompts.CRITERIA),
                attempts=self.options.attempts,
                key=(self.seed, "judge", *key),
                **self.options.sampling,
            )
        except BrokenRule as error:
            return {"remark": error.detail}


def mean_rating(ratings: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of the ratings that could be read, with the remark of the first one; score None if none could."""
    readable = [rating for rating in ratings if "score" in rating]
    if not readable:
        return {"score": None, "remark": ratings[-1]["remark"]}
    means = {name: sum(r[name] for r in readable) / len(readable) for name in ("score", *prompts.CRITERIA)}
    return means | {"remark": readable[0]["remark"]}


def read_rating(reply: dict[str, Any]) -> dict[str, Any]:
    """Score and criteria as floats from 0 to 10. Raises UnreadableReply for anything else."""
    return {**read_ratings(reply, ("score", *prompts.CRITERIA)), "remark": str(reply.get("remark", ""))}
