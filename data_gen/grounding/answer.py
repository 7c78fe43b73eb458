"""Stage answer: how hard a question is, for whom: answered without and with the document, several times, and graded.

Asked are the best candidates of each cluster that the judge passed: they alone can be selected, and these are the
longest prompts of the whole pipeline. Grading: equal to the reference by rule, else a judge (the training reward's own
prompt, so that an answer cannot talk to it). What no grader could read counts as neither right nor wrong.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from verl_longrl.rewards import JudgeError
from verl_longrl.rewards.options import Options, number

from data_gen.grading import Grader
from data_gen.grounding import prompts
from data_gen.grounding.chunk import chunk_texts
from data_gen.grounding.select import SelectOptions, finalists
from data_gen.llm import LLMOptions, Messages, RequestFailed, check_sampling
from data_gen.llm_json import UnreadableReply, final_text
from data_gen.llm_stage import AskingStage
from data_gen.store import Document, Row
from data_gen.text import derive_seed

_WAYS = ("closed_book", "with_document")


@dataclass(frozen=True)
class AnswerOptions(Options):
    """servers: which of `servers` answer; name the model that will be trained. grader: which of `servers` grades.
    closed_book, with_document: answers of each server without and with the document (0: not asked, and the filter of
    stage select that needs them is off). The others: sampling."""

    servers: tuple[str, ...] = ("default",)
    grader: str = "default"
    closed_book: int = 4
    with_document: int = 4
    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 4096

    def __post_init__(self) -> None:
        if not self.servers:
            raise ValueError("answer.servers is empty; name at least one of servers, such as [default]")
        for name, low in (("closed_book", 0), ("with_document", 0)):
            number(f"answer.{name}", getattr(self, name), low, whole=True)
        check_sampling("answer", self)


class Answer(AskingStage):
    """Row: `answers`, one for each finalist (see select.py): `cluster`, `candidate`, `closed_book` and `with_document`,
    each by server name a list of {text, correct}, `correct` None when the answer or its grade could not be had."""

    name = "answer"
    after = ("ingest", "chunk", "generate", "judge")

    def __init__(
        self,
        options: AnswerOptions,
        selection: SelectOptions,
        servers: dict[str, LLMOptions],
        seed: int,
    ):
        super().__init__(servers)
        self.options, self.selection, self.seed = options, selection, seed
        self.grader = Grader(options.max_tokens, seed)

    def settings(self) -> dict[str, Any]:
        finalists = {f"select.{key}": getattr(self.selection, key) for key in ("threshold", "min_criterion")}
        return {"seed": self.seed, **finalists, **self.named(self.options), **self.server_settings()}

    async def row(self, document: Document) -> Row:
        text = document["ingest"]["text"]
        chosen = finalists(document, self.selection)
        answers = await asyncio.gather(*(self._examine(document, text, candidate) for candidate in chosen))
        counts = Counter({"candidates answered": len(answers)})
        for answer in answers:
            for way in _WAYS:
                for samples in answer[way].values():
                    counts[f"answers {way}"] += len(samples)
                    counts[f"answers {way} right"] += sum(bool(sample["correct"]) for sample in samples)
                    counts[f"answers {way} ungraded"] += sum(sample["correct"] is None for sample in samples)
        return {"id": document["judge"]["id"], "answers": answers, "counts": counts}

    async def _examine(self, document: Document, text: str, candidate: dict[str, Any]) -> dict[str, Any]:
        """All answers to one question."""
        question = candidate["question"]
        prompt = {way: prompts.answer_prompt(question, text if way == "with_document" else None) for way in _WAYS}
        wanted = [
            (way, server, n)
            for way in _WAYS
            for server in self.options.servers
            for n in range(getattr(self.options, way))
        ]
        texts = chunk_texts(document)
        evidence = "\n".join(texts[i] for i in candidate["evidence"])
        samples = await asyncio.gather(
            *(
                self._answer(candidate, prompt[way], evidence, server, document["judge"]["id"], way, n)
                for way, server, n in wanted
            )
        )
        result: dict[str, Any] = {"cluster": candidate["cluster"], "candidate": candidate["candidate"]}
        result |= {way: {server: [] for server in self.options.servers} for way in _WAYS}
        for (way, server, _), sample in zip(wanted, samples, strict=True):
            result[way][server].append(sample)
        return result

    async def _answer(
        self, candidate: dict[str, Any], prompt: Messages, evidence: str, server: str, *key: object
    ) -> dict[str, Any]:
        name = (*key, server, candidate["cluster"], candidate["candidate"])
        try:
            reply = await self.llms[server].chat(
                prompt,
                max_tokens=self.options.max_tokens,
                temperature=self.options.temperature,
                top_p=self.options.top_p,
                seed=derive_seed(self.seed, "answer", *name),
            )
            text = read_answer(reply.text)
        except (RequestFailed, UnreadableReply) as error:
            return {"text": None, "correct": None, "detail": str(error)}
        if reply.finish_reason == "length":  # so it would be in training
            return {"text": text, "correct": False, "detail": "cut off at answer.max_tokens"}
        try:
            question, reference = candidate["question"], candidate["answer"]
            right = await self.grader.is_right(self.llms[self.options.grader], question, reference, text, evidence)
            return {"text": text, "correct": right}
        except (RequestFailed, JudgeError) as error:
            return {"text": text, "correct": None, "detail": str(error)}


def read_answer(reply: str) -> str:
    """What follows the last "Answer:", else the last line. Raises UnreadableReply for unfinished reasoning."""
    text = final_text(reply)
    _, found, answer = text.rpartition("Answer:")
    return (answer if found else text.rpartition("\n")[2]).strip(" \n*")
