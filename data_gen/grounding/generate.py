"""Stage generate: candidate questions for every chosen cluster, with evidence in the document's own chunk numbers.

LongRLVR's Algorithm 1: 3 candidates for each of the 4 clusters. A reply that breaks a rule (unreadable, evidence out of
range or of one chunk only, too long an answer, talk of excerpt numbers) is asked for again with another seed; what
remains wrong is kept with its status, so that every candidate asked for is accounted for.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from verl_longrl.data.prompt import neutralise_tags
from verl_longrl.rewards.options import Options, number

from data_gen.grounding import prompts
from data_gen.grounding.chunk import chunk_texts
from data_gen.llm import LLMOptions, check_sampling
from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import AskingStage
from data_gen.store import Document, Row, drop

_MENTION = re.compile(r"\b(?:excerpt|chunk)s?\s*[\[(#]?\s*\d+|</?CHUNK_\d+>", re.IGNORECASE)


@dataclass(frozen=True)
class GenerateOptions(Options):
    """server: which of `servers` writes the questions. candidates: for each cluster. attempts: replies asked for until
    one keeps the rules. min_evidence: chunks that a question must need. The others: sampling."""

    server: str = "default"
    candidates: int = 3
    attempts: int = 3
    min_evidence: int = 2
    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 16384

    def __post_init__(self) -> None:
        for name in ("candidates", "attempts", "min_evidence"):
            number(f"generate.{name}", getattr(self, name), 1, whole=True)
        check_sampling("generate", self)


class Generate(AskingStage):
    """Row: `candidates`, each with `cluster`, `candidate`, `status` and, when that is "ok", `question`, `answer`,
    `evidence` (chunk numbers of the document, ascending), `explanation`; else `detail`. Drops: no_candidate."""

    name = "generate"
    structured = True
    after = ("ingest", "chunk", "cluster")

    def __init__(self, options: GenerateOptions, server: LLMOptions, seed: int):
        super().__init__({options.server: server})
        self.options, self.seed = options, seed

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, **self.named(self.options), **self.server_settings()}

    async def row(self, document: Document) -> Row:
        name, texts = document["cluster"]["id"], chunk_texts(document)
        clusters = document["cluster"]["clusters"]
        wanted = [(k, j) for k in document["cluster"]["chosen"] for j in range(self.options.candidates)]
        candidates = await asyncio.gather(*(self._candidate(name, texts, clusters[k], k, j) for k, j in wanted))
        counts = Counter(f"candidates {candidate['status']}" for candidate in candidates)
        if not counts["candidates ok"]:
            return {**drop(name, "no_candidate", str(candidates[-1].get("detail", ""))), "counts": counts}
        return {"id": name, "candidates": candidates, "counts": counts}

    async def _candidate(self, name: str, texts: list[str], cluster: list[int], k: int, j: int) -> dict[str, Any]:
        which = {"cluster": k, "candidate": j}
        try:
            fields = await self.ask_json(
                self.options.server,
                prompts.question_prompt([texts[i] for i in cluster]),
                lambda found: read_candidate(found, cluster, self.options.min_evidence),
                schema=prompts.QUESTION_SCHEMA,
                keys=("question", "answer", "evidence"),
                attempts=self.options.attempts,
                key=(self.seed, "generate", name, k, j),
                max_tokens=self.options.max_tokens,
                temperature=self.options.temperature,
                top_p=self.options.top_p,
            )
        except BrokenRule as error:
            return which | {"status": error.status, "detail": error.detail}
        return which | {"status": "ok", **fields}


def read_candidate(found: dict[str, Any], cluster: list[int], min_evidence: int) -> dict[str, Any]:
    """A candidate's fields from the model's JSON, its evidence mapped from the cluster's numbers to the document's.

    Raises BrokenRule.
    """
    question, answer = found["question"], found["answer"]
    if question == prompts.SKIPPED:
        raise BrokenRule(f"skipped: {found.get('explanation', '')}")
    if not (isinstance(question, str) and isinstance(answer, str) and question.strip() and answer.strip()):
        raise BrokenRule(f"empty: question {question!r}, answer {answer!r}")
    evidence = found["evidence"]
    if not isinstance(evidence, list) or any(type(number) is not int for number in evidence):
        raise BrokenRule(f"wrong_evidence: {evidence!r} is no list of excerpt numbers")
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
        "explanation": str(found.get("explanation", "")).strip(),
    }
