"""Stage answer: have models answer each question several times, without and with the document, and grade the answers.

Only the best candidate of each cluster that passed the judge is answered: no other can be selected, and prompts with
the whole document are the longest of the pipeline. An answer is right if it equals the reference by rule, or if a
judge says so; the judge gets the training reward's prompt, which an answer cannot manipulate. An answer that no grader
could read counts as neither right nor wrong.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar, Self

from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import OptionError
from verl_longrl.rewards import JudgeError

from data_gen.config import PipelineConfig
from data_gen.grading import Grader
from data_gen.grounding import prompts
from data_gen.grounding.chunk import chunk_texts
from data_gen.grounding.select import SelectOptions, finalists
from data_gen.llm import LLMOptions, Messages, RequestFailed
from data_gen.llm_json import UnreadableReply, final_text
from data_gen.llm_stage import LLMStage
from data_gen.sampling import NucleusSamplingOptions
from data_gen.store import Document, Row
from data_gen.text import derive_seed

_SETTINGS = ("closed_book", "with_document")


@dataclass(frozen=True)
class AnswerStageOptions(NucleusSamplingOptions):
    """Options of stage answer."""

    servers: tuple[str, ...] = ("default",)
    """Those of `servers` that answer; name the model to be trained."""
    grader: str = "default"
    """The one of `servers` that grades."""
    closed_book: NonNegativeInt = 4
    """Answers of each server without the document. With 0, stage select does not filter by them."""
    with_document: NonNegativeInt = 4
    """Answers of each server with the document. With 0, stage select does not filter by them."""
    max_tokens: PositiveInt = 4096

    def __post_init__(self) -> None:
        if not self.servers:
            raise OptionError("servers", [], "expected at least one name", "name some of servers, such as [default]")


class AnswerStage(LLMStage):
    """Row: `answers`, one for each finalist (see select.py): `cluster`, `candidate`, `closed_book` and `with_document`.
    Each of the last two is, by server name, a list of {text, correct}; `correct` is null if the request or the
    grading failed."""

    name = "answer"
    summary = "have models answer the best, without and with the document."
    blocks: ClassVar = {"answer": AnswerStageOptions}
    after = ("ingest", "chunk", "generate", "judge")

    options: AnswerStageOptions

    def __init__(
        self,
        options: AnswerStageOptions,
        selection: SelectOptions,
        servers: dict[str, LLMOptions],
        seed: int,
    ):
        super().__init__(options, servers, seed)
        self.selection = selection
        self.grader = Grader(options.max_tokens, seed)

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options = config.block(AnswerStageOptions)
        servers = {name: config.server(name, "answer.servers") for name in options.servers}
        servers.setdefault(options.grader, config.server(options.grader, "answer.grader"))
        return cls(options, config.block(SelectOptions), servers, config.seed)

    def settings(self) -> dict[str, Any]:
        finalists = {f"select.{key}": getattr(self.selection, key) for key in ("threshold", "min_criterion")}
        return super().settings() | finalists

    async def row(self, document: Document) -> Row:
        text = document["ingest"]["text"]
        requests = [self._examine(document, text, finalist) for finalist in finalists(document, self.selection)]
        answers = await asyncio.gather(*requests)
        counts = Counter({"candidates answered": len(answers)})
        for answer in answers:
            for setting in _SETTINGS:
                for samples in answer[setting].values():
                    counts[f"answers {setting}"] += len(samples)
                    counts[f"answers {setting} right"] += sum(bool(sample["correct"]) for sample in samples)
                    counts[f"answers {setting} ungraded"] += sum(sample["correct"] is None for sample in samples)
        return {"id": document["judge"]["id"], "answers": answers, "counts": counts}

    async def _examine(self, document: Document, text: str, candidate: dict[str, Any]) -> dict[str, Any]:
        """All answers to one question."""
        question, texts = candidate["question"], chunk_texts(document)
        evidence = "\n".join(texts[i] for i in candidate["evidence"])
        keys, requests = [], []
        for setting in _SETTINGS:
            prompt = prompts.answer_prompt(question, text if setting == "with_document" else None)
            for server in self.options.servers:
                for n in range(getattr(self.options, setting)):
                    keys.append((setting, server))
                    key = (document["judge"]["id"], setting, n)
                    requests.append(self._answer(candidate, prompt, evidence, server, *key))
        result: dict[str, Any] = {"cluster": candidate["cluster"], "candidate": candidate["candidate"]}
        result |= {setting: {server: [] for server in self.options.servers} for setting in _SETTINGS}
        for (setting, server), sample in zip(keys, await asyncio.gather(*requests), strict=True):
            result[setting][server].append(sample)
        return result

    async def _answer(
        self, candidate: dict[str, Any], prompt: Messages, evidence: str, server: str, *key: object
    ) -> dict[str, Any]:
        """One graded answer. `key` and the server make its seed, and so distinguish it from other answers."""
        name = (*key, server, candidate["cluster"], candidate["candidate"])
        try:
            reply = await self.llms[server].chat(
                prompt,
                **self.options.sampling,
                seed=derive_seed(self.seed, "answer", *name),
            )
            text = read_answer(reply.text)
        except (RequestFailed, UnreadableReply) as error:
            return {"text": None, "correct": None, "detail": str(error)}
        if reply.finish_reason == "length":
            # A truncated response earns nothing in training either.
            return {"text": text, "correct": False, "detail": "cut off at answer.max_tokens"}
        try:
            question, reference = candidate["question"], candidate["answer"]
            right = await self.grader.is_right(self.llms[self.options.grader], question, reference, text, evidence)
            return {"text": text, "correct": right}
        except (RequestFailed, JudgeError) as error:
            return {"text": text, "correct": None, "detail": str(error)}


def read_answer(reply: str) -> str:
    """The text after the last "Answer:", or the last line. Raises UnreadableReply for unfinished reasoning."""
    text = final_text(reply)
    _, label, answer = text.rpartition("Answer:")
    return (answer if label else text.rpartition("\n")[2]).strip(" \n*")
