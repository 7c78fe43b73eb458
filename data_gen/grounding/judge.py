"""Stage judge: every candidate rated from 0 to 10 by a model that sees the chunks and the claimed evidence.

LongRLVR's first rejection step needs a rating of clarity, correctness and necessity of the evidence (paper, data
section); the released rubric's weights are not used, the judge gives the whole itself, after the criteria one by one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from verl_longrl.rewards.options import Options, number

from data_gen.grading import ratings
from data_gen.grounding import prompts
from data_gen.grounding.chunk import chunk_texts
from data_gen.llm import LLMOptions, check_sampling
from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import AskingStage
from data_gen.store import Document, Row, drop


@dataclass(frozen=True)
class JudgeOptions(Options):
    """server: which of `servers` rates. samples: ratings of each candidate, averaged. attempts: replies asked for until
    one can be read. The others: sampling."""

    server: str = "default"
    samples: int = 1
    attempts: int = 3
    temperature: float = 0.1
    max_tokens: int = 16384

    def __post_init__(self) -> None:
        for name in ("samples", "attempts"):
            number(f"judge.{name}", getattr(self, name), 1, whole=True)
        check_sampling("judge", self)


class Judge(AskingStage):
    """Row: `ratings`, one for each candidate whose status is "ok", in order: `cluster`, `candidate`, `score` (None when
    no rating could be read), the criteria, `remark`. Drops: unrated."""

    name = "judge"
    structured = True
    after = ("ingest", "chunk", "cluster", "generate")

    def __init__(self, options: JudgeOptions, server: LLMOptions, seed: int):
        super().__init__({options.server: server})
        self.options, self.seed = options, seed

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, **self.named(self.options), **self.server_settings()}

    async def row(self, document: Document) -> Row:
        texts, name = chunk_texts(document), document["generate"]["id"]
        candidates = [c for c in document["generate"]["candidates"] if c["status"] == "ok"]
        samples = range(self.options.samples)
        replies = await asyncio.gather(*(self._sample(document, texts, c, n) for c in candidates for n in samples))
        ratings = []
        for position, candidate in enumerate(candidates):
            of_this = replies[position * len(samples) : (position + 1) * len(samples)]
            which = {"cluster": candidate["cluster"], "candidate": candidate["candidate"]}
            ratings.append(which | mean_rating(of_this))
        counts = Counter("candidates unrated" if r["score"] is None else "candidates rated" for r in ratings)
        if not counts["candidates rated"]:
            return {**drop(name, "unrated", str(ratings[-1].get("remark", ""))), "counts": counts}
        return {"id": name, "ratings": ratings, "counts": counts}

    async def _sample(
        self, document: Document, texts: list[str], candidate: dict[str, Any], number: int
    ) -> dict[str, Any]:
        """One rating, or only the `remark` why there is none."""
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
                max_tokens=self.options.max_tokens,
                temperature=self.options.temperature,
            )
        except BrokenRule as error:
            return {"remark": error.detail}


def mean_rating(ratings: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of those ratings that could be read, with the first one's remark; score None when none could."""
    readable = [rating for rating in ratings if "score" in rating]
    if not readable:
        return {"score": None, "remark": ratings[-1]["remark"]}
    means = {name: sum(r[name] for r in readable) / len(readable) for name in ("score", *prompts.CRITERIA)}
    return means | {"remark": readable[0]["remark"]}


def read_rating(found: dict[str, Any]) -> dict[str, Any]:
    """Score and criteria as floats from 0 to 10. Raises UnreadableReply for anything else."""
    return {**ratings(found, ("score", *prompts.CRITERIA)), "remark": str(found.get("remark", ""))}
