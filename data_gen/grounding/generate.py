"""Stage generate: have a model write candidate questions for every chosen cluster, with the chunks that answer them.

LongRLVR's Algorithm 1: 3 candidates for each of the 4 clusters. A reply that breaks a rule (unreadable, evidence out of
range or from a single chunk, too long an answer, excerpt numbers in the text) is requested again with another seed. A
candidate that still breaks a rule is kept with its status, so that every candidate is accounted for.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any, ClassVar, Self

from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.data.prompt import neutralise_tags

from data_gen.config import PipelineConfig
from data_gen.grounding import prompts
from data_gen.grounding.chunk import chunk_texts
from data_gen.llm import LLMOptions
from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import LLMStage
from data_gen.sampling import NucleusSamplingOptions
from data_gen.store import Document, Row, dropped_row

_MENTION = re.compile(r"\b(?:excerpt|chunk)s?\s*[\[(#]?\s*\d+|</?CHUNK_\d+>", re.IGNORECASE)


@dataclass(frozen=True)
class GenerateOptions(NucleusSamplingOptions):
    """Options of stage generate."""

    server: str = "default"
    """The one of `servers` that writes the questions."""
    candidates: PositiveInt = 3
    """Questions for each cluster."""
    attempts: PositiveInt = 3
    """Replies requested until one follows the rules."""
    min_evidence: PositiveInt = 2
    """Chunks that the answer to a question must need, at least."""
    temperature: NonNegativeFloat = 0.6


class GenerateStage(LLMStage):
    """Row: `candidates`, each with `cluster`, `candidate`, `status` and, when that is "ok", `question`, `answer`,
    `evidence` (chunk numbers of the document, ascending), `explanation`; else `detail`. Drops: no_candidate."""

    name = "generate"
    summary = "have a model write questions about clusters."
    blocks: ClassVar = {"generate": GenerateOptions}
    structured = True
    after = ("ingest", "chunk", "cluster")

    options: GenerateOptions

    def __init__(self, options: GenerateOptions, server: LLMOptions, seed: int):
        super().__init__(options, {options.server: server}, seed)

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options = config.block(GenerateOptions)
        return cls(options, config.server(options.server, "generate.server"), config.seed)

    async def row(self, document: Document) -> Row:
        name, texts = document["cluster"]["id"], chunk_texts(document)
        clusters = document["cluster"]["clusters"]
        requests = [
            self._candidate(name, texts, clusters[k], k, j)
            for k in document["cluster"]["chosen"]
            for j in range(self.options.candidates)
        ]
        candidates = await asyncio.gather(*requests)
        counts = Counter(f"candidates {candidate['status']}" for candidate in candidates)
        if not counts["candidates ok"]:
            detail = str(candidates[-1].get("detail", ""))
            return {**dropped_row(name, "no_candidate", detail), "counts": counts}
        return {"id": name, "candidates": candidates, "counts": counts}

    async def _candidate(self, name: str, texts: list[str], cluster: list[int], k: int, j: int) -> dict[str, Any]:
        """Candidate `j` of cluster number `k`, which consists of the chunks numbered `cluster`."""
        ids = {"cluster": k, "candidate": j}
        try:
            fields = await self.ask_json(
                self.options.server,
                prompts.question_prompt([texts[i] for i in cluster]),
                lambda reply: read_candidate(reply, cluster, self.options.min_evidence),
                schema=prompts.QUESTION_SCHEMA,
                keys=("question", "answer", "evidence"),
                attempts=self.options.attempts,
                key=(self.seed, "generate", name, k, j),
                **self.options.sampling,
            )
        except BrokenRule as error:
            return ids | {"status": error.status, "detail": error.detail}
        return ids | {"status": "ok", **fields}


def read_candidate(reply: dict[str, Any], cluster: list[int], min_evidence: int) -> dict[str, Any]:
    """A candidate's fields from the model's JSON.

    The model numbers the excerpts that it sees from 0; in the result, evidence is given by chunk numbers of the
    document. With cluster = [3, 8, 21], evidence [0, 2] becomes [3, 21].

    Raises BrokenRule.
    """
    question, answer = reply["question"], reply["answer"]
    if question == prompts.SKIPPED:
        raise BrokenRule(f"skipped: {reply.get('explanation', '')}")
    if not (isinstance(question, str) and isinstance(answer, str) and question.strip() and answer.strip()):
        raise BrokenRule(f"empty: question {question!r}, answer {answer!r}")
    evidence = reply["evidence"]
    if not isinstance(evidence, list) or any(type(number) is not int for number in evidence):
        raise BrokenRule(f"wrong_evidence: {evidence!r} is not a list of excerpt numbers")
    if outside := [number for number in evidence if not 0 <= number < len(cluster)]:
        raise BrokenRule(f"wrong_evidence: {outside} of {len(cluster)} excerpts")
    if len(set(evidence)) < min_evidence:
        raise BrokenRule(f"little_evidence: {sorted(set(evidence))}, at least {min_evidence} excerpts are needed")
    if len(answer.split()) > prompts.MAX_ANSWER_WORDS:
        raise BrokenRule(f"long_answer: {len(answer.split())} words")
    if mention := _MENTION.search(question) or _MENTION.search(answer):
        raise BrokenRule(f"mentions_excerpts: {mention[0]!r}")
    return {
        "question": neutralise_tags(question.strip()),
        "answer": answer.strip(),
        "evidence": sorted({cluster[number] for number in evidence}),
        "explanation": str(reply.get("explanation", "")).strip(),
    }
