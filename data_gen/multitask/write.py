"""Stage write: have a model write the tasks whose answers code cannot compute, about the text that a prompt shows.

Code checks that a reply follows the rules: its evidence appears in the text word for word, in different passages; the
question does not depend on it; the answer is short, or the summary has the required length; no part of it is in a
benchmark; and its own reward distinguishes the answer from a wrong one. A reply that breaks a rule is requested again
with another seed; samples that still break one are counted by rule. Whether an answer is right is checked by the next
stage (`verify.py`).
"""

from __future__ import annotations

import asyncio
import random
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple, Self

from data_gen.config import PipelineConfig
from data_gen.decontaminate import Benchmarks, fingerprint_files, require_files
from data_gen.export_stage import prompt_counter
from data_gen.llm import LLMOptions
from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import LLMStage
from data_gen.multitask import prompts
from data_gen.multitask.compose import TaskComposeOptions, passage_tokens, passages_of
from data_gen.multitask.prompt_window import Windows
from data_gen.multitask.reward_proof import accepted_answers, is_proven
from data_gen.multitask.visible_text import flatten
from data_gen.multitask.written_tasks import BRIEFS
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.writing_brief import WrittenSample
from data_gen.special_tokens import SpecialTokens
from data_gen.store import Document, Row, Store
from data_gen.text import derive_seed
from data_gen.tokenizer import load_tokenizer

QUESTION_TOKENS = 1024
"""Room reserved for a question with its options; a longer one is requested again."""
SHORTEST_QUOTE = 4
"""Fewest words of a quote that counts as evidence."""
_PLAIN = str.maketrans("‘’‚“”„‐‑–—", "'''\"\"\"----")
"""Quotation marks and dashes that models confuse when they quote."""


class TextRange(NamedTuple):
    """The part of a document that is shown: passages [start, end), and their tokens."""

    passages: list[str]
    start: int
    end: int
    tokens: int


class WriteStage(LLMStage):
    """Row: `samples` (see samples.py), which also have `evidence` (quotes) and `explanation`, and `failed`: `task`,
    `status` and `detail` of each sample that could not be written. The counts are by task and status."""

    name = "write"
    summary = "have a model write the tasks that cannot be computed."
    blocks: ClassVar = {"write": WriteOptions}
    structured = True
    after = ("ingest", "assign")

    options: WriteOptions

    def __init__(
        self,
        options: WriteOptions,
        compose: TaskComposeOptions,
        servers: dict[str, LLMOptions],
        tokenizer: str,
        benchmarks: tuple[str, ...],
        seed: int,
    ):
        super().__init__(options, servers, seed)
        require_files(benchmarks)
        self.compose, self.tokenizer, self.benchmark_files = compose, tokenizer, benchmarks

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options, compose = config.block(WriteOptions), config.block(TaskComposeOptions)
        servers = config.named_servers(options.server_names)
        return cls(options, compose, servers, config.tokenizer, config.benchmarks, config.seed)

    def is_enabled(self) -> bool:
        return bool(self.options.server)

    def settings(self) -> dict[str, Any]:
        return {
            **super().settings(),
            "tokenizer": self.tokenizer,
            "benchmarks": fingerprint_files(self.benchmark_files),
            "compose.max_prompt_tokens": self.compose.max_prompt_tokens,
            "compose.min_passages": self.compose.min_passages,
        }

    def check_before_run(self) -> None:
        if self.is_enabled():
            prompt_counter(self.tokenizer)
        else:
            print("write: write.server is not set, so all tasks are computed", file=sys.stderr)

    async def open(self, store: Store) -> None:
        self.counter = prompt_counter(self.tokenizer)
        self.special = SpecialTokens(load_tokenizer(self.tokenizer))
        self.benchmarks = Benchmarks(self.benchmark_files)
        await super().open(store)

    async def row(self, document: Document) -> Row:
        name, assigned = document["ingest"]["id"], document["assign"]["tasks"]
        tasks = [task for task in assigned if task in self.options.tasks]
        if not tasks:
            return {"id": name, "samples": [], "failed": []}
        shown = await asyncio.to_thread(self._choose_text, name, document["ingest"]["text"])
        requests = []
        for place, task in enumerate(tasks):
            n = tasks[:place].count(task)
            requests.append(self._sample(name, shown, task, n))
        samples: list[Row] = []
        failed: list[Row] = []
        for sample in await asyncio.gather(*requests):
            if sample.get("question") in [other["question"] for other in samples]:
                sample = {"task": sample["task"], "status": "said_twice", "detail": sample["question"]}
            (failed if "status" in sample else samples).append(sample)
        counts = Counter(sample["task"] for sample in samples)
        counts.update(f"{sample['task']}: {sample['status']}" for sample in failed)
        return {"id": name, "samples": samples, "failed": failed, "counts": counts}

    def _choose_text(self, name: str, text: str) -> TextRange:
        """The text of all written samples of a document. It is the same one, so that servers can reuse its prefix."""
        passages = passages_of(text, self.compose)
        windows = Windows(passage_tokens(self.counter, passages))
        draw = random.Random(derive_seed(self.seed, "written", name))
        start, end = windows.draw(self.compose.max_prompt_tokens - QUESTION_TOKENS, draw)
        return TextRange(passages[start:end], start, end, windows.tokens(start, end))

    async def _sample(self, name: str, shown: TextRange, task: str, n: int) -> Row:
        """Sample number `n` of a task, or the status of the last failure."""
        if shown.end - shown.start < self.compose.min_passages:
            return {"task": task, "status": "no_room", "detail": f"{shown.end - shown.start} passages"}
        options, key = self.options, (self.seed, "write", name, task, n)
        brief = BRIEFS[task](random.Random(derive_seed(*key)), options)
        overlong = options.overlong_server if shown.tokens > options.long_tokens else ""
        try:
            return await self.ask_json(
                overlong or options.server,
                prompts.instruction_messages(shown.passages, brief.instruction),
                lambda reply: self._check(task, brief.parse_reply(self._without_special_tokens(reply)), shown),
                schema=brief.schema,
                keys=brief.schema["required"],
                attempts=options.attempts,
                key=key,
                **options.sampling,
            )
        except BrokenRule as error:
            return {"task": task, "status": error.status, "detail": error.detail}

    def _without_special_tokens(self, value: Any) -> Any:
        """A reply with the special tokens in all its texts broken up, as in ingested documents."""
        if isinstance(value, str):
            return self.special.break_up(value)
        if isinstance(value, list):
            return [self._without_special_tokens(item) for item in value]
        if isinstance(value, dict):
            return {key: self._without_special_tokens(item) for key, item in value.items()}
        return value

    def _check(self, task: str, written: WrittenSample, shown: TextRange) -> Row:
        """The sample. Raises BrokenRule: unsupported, little_evidence, contaminated, no_room, unproven."""
        sample = written.sample
        if task != "summary":
            check_evidence(written.evidence, shown.passages, self.options.min_evidence)
        golds = [str(answer) for answer in accepted_answers(task, sample.gold)]
        for text in (sample.question, *golds, f"{sample.question} {golds[0]}"):
            if copied := self.benchmarks.overlap(text):
                raise BrokenRule(f"contaminated: {copied!r}")
        prompt = prompts.question_messages(shown.passages, sample.question, sample.answer_as, sample.numbered)
        tokens = self.counter.count([prompt])[0]
        if tokens > self.compose.max_prompt_tokens:
            raise BrokenRule(f"no_room: {tokens} tokens with the question > {self.compose.max_prompt_tokens}")
        if not is_proven(task, sample):
            raise BrokenRule(f"unproven: the reward does not distinguish {sample.gold!r} from {sample.neighbour!r}")
        return {
            "task": task,
            **{key: value for key, value in sample._asdict().items() if key != "neighbour"},
            "window": [shown.start, shown.end],
            "prompt_tokens": tokens,
            "evidence": written.evidence,
            "explanation": written.explanation,
        }


def check_evidence(quotes: Sequence[str], passages: Sequence[str], least: int) -> None:
    """Check that all quotes appear in the passages and begin in at least `least` different ones. White space and the
    form of quotation marks and dashes are ignored. Raises BrokenRule."""
    flat = [_comparable(passage) for passage in passages]
    # starts[i] is the position of passage i in the joined text; + 1 for the space between two passages.
    text, starts = " ".join(flat), list(accumulate((len(passage) + 1 for passage in flat), initial=0))
    places: set[int] = set()
    for quote in quotes:
        at = text.find(_comparable(quote)) if len(quote.split()) >= SHORTEST_QUOTE else -1
        if at < 0:
            raise BrokenRule(f"unsupported: {quote!r} is not a quote of {SHORTEST_QUOTE} words or more from the text")
        places.add(bisect_right(starts, at))
    if len(places) < least:
        raise BrokenRule(f"little_evidence: quotes from {len(places)} passages < {least}")


def _comparable(text: str) -> str:
    return flatten(text).translate(_PLAIN)
