"""Stage write: the tasks whose answer code cannot compute, written by a model that reads the text a prompt shows.

A reply is held to rules that code can check: its evidence stands in the text word for word, in different passages; the
question can be asked without it; the answer is short, or the summary of the wanted length; nothing of it is in a
benchmark; and its own reward tells the answer from a wrong one. What breaks a rule is asked for again with another
seed, and what remains is counted by kind. Whether an answer is right is the next stage's business (`verify.py`).
"""

from __future__ import annotations

import asyncio
import random
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from data_gen.decontaminate import Benchmarks, fingerprints, require
from data_gen.export_stage import prompt_counter
from data_gen.llm import LLMOptions
from data_gen.llm_json import BrokenRule
from data_gen.llm_stage import AskingStage
from data_gen.multitask import prompts
from data_gen.multitask.compose import ComposeOptions, passage_tokens, passages_of
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
"""Room that is left for a question with its options; one that takes more is asked for again."""
SHORTEST_QUOTE = 4
"""Words of a quote that proves anything."""
_PLAIN = str.maketrans("‘’‚“”„‐‑–—", "'''\"\"\"----")  # writers of quotes put one for the other


class Text(NamedTuple):
    """What of a document is shown: passages [start, end), and their tokens."""

    passages: list[str]
    start: int
    end: int
    tokens: int


class Write(AskingStage):
    """Row: `samples` (see samples.py), each with its `evidence` (quotes) and `explanation` too, and `failed`: for each
    other one that was assigned `task`, `status`, `detail`. The counts are by task and status."""

    name = "write"
    structured = True
    after = ("ingest", "assign")

    def __init__(
        self,
        options: WriteOptions,
        compose: ComposeOptions,
        servers: dict[str, LLMOptions],
        tokenizer: str,
        benchmarks: tuple[str, ...],
        seed: int,
    ):
        super().__init__(servers)
        require(benchmarks)
        self.options, self.compose = options, compose
        self.tokenizer, self.benchmark_files, self.seed = tokenizer, benchmarks, seed

    def wanted(self) -> bool:
        return bool(self.options.server)

    def settings(self) -> dict[str, Any]:
        compose = {f"compose.{key}": getattr(self.compose, key) for key in ("max_prompt_tokens", "min_passages")}
        own = {"seed": self.seed, "tokenizer": self.tokenizer, "benchmarks": fingerprints(self.benchmark_files)}
        return {**own, **compose, **self.named(self.options), **self.server_settings()}

    def check(self) -> None:
        if self.wanted():
            prompt_counter(self.tokenizer)
        else:
            print("write: write.server names no server, so all tasks are computed", file=sys.stderr)

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
        shown = await asyncio.to_thread(self._shown, name, document["ingest"]["text"])
        wanted = [(task, tasks[:place].count(task)) for place, task in enumerate(tasks)]
        found = await asyncio.gather(*(self._sample(name, shown, task, n) for task, n in wanted))
        samples: list[Row] = []
        failed: list[Row] = []
        for sample in found:
            if sample.get("question") in [other["question"] for other in samples]:
                sample = {"task": sample["task"], "status": "said_twice", "detail": sample["question"]}
            (failed if "status" in sample else samples).append(sample)
        counts = Counter(sample["task"] for sample in samples)
        counts.update(f"{sample['task']}: {sample['status']}" for sample in failed)
        return {"id": name, "samples": samples, "failed": failed, "counts": counts}

    def _shown(self, name: str, text: str) -> Text:
        """What all written samples of a document are about: one text, which servers need to read only once."""
        passages = passages_of(text, self.compose)
        windows = Windows(passage_tokens(self.counter, passages))
        draw = random.Random(derive_seed(self.seed, "written", name))
        start, end = windows.draw(self.compose.max_prompt_tokens - QUESTION_TOKENS, draw)
        return Text(passages[start:end], start, end, windows.tokens(start, end))

    async def _sample(self, name: str, shown: Text, task: str, n: int) -> Row:
        """The n-th sample of a task, or its status."""
        if shown.end - shown.start < self.compose.min_passages:
            return {"task": task, "status": "no_room", "detail": f"{shown.end - shown.start} passages"}
        options, key = self.options, (self.seed, "write", name, task, n)
        brief = BRIEFS[task](random.Random(derive_seed(*key)), options)
        overlong = options.overlong_server if shown.tokens > options.long_tokens else ""
        try:
            return await self.ask_json(
                overlong or options.server,
                prompts.instruction_messages(shown.passages, brief.instruction),
                lambda found: self._checked(task, brief.parse_reply(self._as_text(found)), shown),
                schema=brief.schema,
                keys=brief.schema["required"],
                attempts=options.attempts,
                key=key,
                max_tokens=options.max_tokens,
                temperature=options.temperature,
                top_p=options.top_p,
            )
        except BrokenRule as error:
            return {"task": task, "status": error.status, "detail": error.detail}

    def _as_text(self, value: Any) -> Any:
        """What a model wrote, read as text, as the document is since it was ingested."""
        if isinstance(value, str):
            return self.special.break_up(value)
        if isinstance(value, list):
            return [self._as_text(item) for item in value]
        return {key: self._as_text(item) for key, item in value.items()} if isinstance(value, dict) else value

    def _checked(self, task: str, written: WrittenSample, shown: Text) -> Row:
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
            raise BrokenRule(f"unproven: the reward does not tell {sample.gold!r} from {sample.neighbour!r}")
        return {
            "task": task,
            **{key: value for key, value in sample._asdict().items() if key != "neighbour"},
            "window": [shown.start, shown.end],
            "prompt_tokens": tokens,
            "evidence": written.evidence,
            "explanation": written.explanation,
        }


def check_evidence(quotes: Sequence[str], passages: Sequence[str], least: int) -> None:
    """That all quotes stand in the passages, whatever the white space and the form of quotation marks and dashes, and
    begin in at least so many different ones. Raises BrokenRule."""
    flat = [_comparable(passage) for passage in passages]
    text, starts = " ".join(flat), list(accumulate((len(passage) + 1 for passage in flat), initial=0))
    places: set[int] = set()
    for quote in quotes:
        at = text.find(_comparable(quote)) if len(quote.split()) >= SHORTEST_QUOTE else -1
        if at < 0:
            raise BrokenRule(f"unsupported: {quote!r} is no quote of {SHORTEST_QUOTE} words or more from the text")
        places.add(bisect_right(starts, at))
    if len(places) < least:
        raise BrokenRule(f"little_evidence: quotes from {len(places)} passages < {least}")


def _comparable(text: str) -> str:
    return flatten(text).translate(_PLAIN)
