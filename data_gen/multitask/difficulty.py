"""Stage difficulty: how hard each sample is, by asking a small model several times and, for what it cannot do, a large
one.

GoLongRL's two-model filter (arXiv 2605.19577), with its default thresholds:

| pass rate of the small model | level | of the large model, asked where the small one is below 0.5 | level |
|---|---|---|---|
| above 0.75 | easy | above 0.75 | medium |
| 0.5 to 0.75 | medium | 0.25 to 0.75 | hard |
| | | below 0.25 | insufficient: nobody can tell whether its answer is right |

Responses are scored by the sample's own reward, each in a process that can be killed. The pass rate is the mean reward,
so that half of a list is half a pass, as it is in training; with `pass_at` it is the share of responses that earn at
least so much. A request that failed, or a score, is no wrong answer: it is left out of the rate, and a sample of which
more than half are missing is unanswered. Summaries are not asked for: no value of ROUGE-L means that one is
right, and they are kept.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from verl_longrl.data.schema import Message
from verl_longrl.rewards import score_async
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.options import Options, RewardOptions, choice, number
from verl_longrl.rewards.score import FAILURES

from data_gen.llm import LLMOptions, RequestFailed, check_sampling
from data_gen.llm_stage import AskingStage
from data_gen.multitask.compose import ComposeOptions
from data_gen.multitask.computed_tasks import data_source
from data_gen.multitask.samples import prompt_of, samples_of
from data_gen.store import Document, Row, Store, drop
from data_gen.text import derive_seed

Level = Literal["easy", "medium", "hard", "unsolved", "insufficient", "unanswered", "not_asked"]
Kept = Literal["easy", "medium", "hard", "unsolved"]
"""Levels that may be kept; unsolved: by the small model, where no large one is asked."""
UNSCALED = ("summary",)
"""Tasks whose metric has no value from which an answer is right."""
MOST_WORKERS = 32
REQUEST_FAILED = "request_failed"
"""Stands for a score's status where there is no response."""


@dataclass(frozen=True)
class DifficultyOptions(Options):
    """small, large: which of `servers` answer; no small one: no filter, no large one: what the small one cannot do is
    unsolved. samples: responses of each. pass_at: reward from which a response counts as one pass (None: the rate is
    the mean reward). small_easy, small_medium, large_medium, large_hard: pass rates above which a sample is easy, from
    which it is medium; above which it is medium, from which it is hard. keep: levels, beside what is not asked.
    easy_share: share of the easy ones that is kept. The others: sampling."""

    small: str = ""
    large: str = ""
    samples: int = 8
    pass_at: float | None = None
    small_easy: float = 0.75
    small_medium: float = 0.5
    large_medium: float = 0.75
    large_hard: float = 0.25
    keep: tuple[str, ...] = ("easy", "medium", "hard")
    easy_share: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 16384

    def __post_init__(self) -> None:
        number("difficulty.samples", self.samples, 1, whole=True)
        if self.pass_at is not None:
            number("difficulty.pass_at", self.pass_at, 0, 1, open_low=True)
        number("difficulty.small_easy", self.small_easy, 0, 1)
        number("difficulty.small_medium", self.small_medium, 0, self.small_easy)
        number("difficulty.large_medium", self.large_medium, 0, 1)
        number("difficulty.large_hard", self.large_hard, 0, self.large_medium)
        number("difficulty.easy_share", self.easy_share, 0, 1)
        check_sampling("difficulty", self)
        for level in self.keep:
            choice("difficulty.keep", level, Kept)
        if self.large and not self.small:
            raise ValueError(f"difficulty.large = {self.large} has nobody to follow; set difficulty.small too")
        if self.large and self.large == self.small:
            raise ValueError(f"difficulty.large = {self.large} is the small model too; name another of the servers")

    def rate(self, rewards: Sequence[float | None]) -> float | None:
        """The pass rate of responses, of which some may have no reward; None when more than half have none."""
        known = [reward for reward in rewards if reward is not None]
        if 2 * len(known) < len(rewards):
            return None
        return fmean(known) if self.pass_at is None else fmean(reward >= self.pass_at for reward in known)

    def level(self, server: str, rate: float | None) -> Level:
        """The level of a sample that this server passes so often."""
        if rate is None:
            return "unanswered"
        if server == self.small:
            return "easy" if rate > self.small_easy else "medium" if rate >= self.small_medium else "unsolved"
        return "medium" if rate > self.large_medium else "hard" if rate >= self.large_hard else "insufficient"


class Difficulty(AskingStage):
    """Row: `samples`, one for each of the document's, with `id`, `task`, `prompt_tokens`, `level`, `kept`, `rates` (by
    server; None where it is unanswered) and `responses`: `server`, `reward` (None where there is no score), `status` (a
    score's, or request_failed), `reason`, `parts`. Drops: no_sample (none is kept; the row has all of this too)."""

    name = "difficulty"
    after = ("ingest", "compose", "verify")

    def __init__(self, options: DifficultyOptions, servers: dict[str, LLMOptions], compose: ComposeOptions, seed: int):
        super().__init__(servers)
        self.options, self.compose, self.seed = options, compose, seed
        self.rewards = RewardOptions(workers=min(MOST_WORKERS, len(os.sched_getaffinity(0))))
        self.scorer: IsolatedScorer | None = None

    def wanted(self) -> bool:
        return bool(self.options.small)

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, **self.named(self.options), **self.server_settings()}

    async def open(self, store: Store) -> None:
        await super().open(store)
        self.scorer = await asyncio.to_thread(IsolatedScorer, self.rewards)
        # replies from the cache come all at once, and scores that share a core would miss their deadlines
        self.scoring = asyncio.Semaphore(self.rewards.workers)

    async def close(self) -> None:
        if self.scorer is not None:
            await asyncio.to_thread(self.scorer.close)
        await super().close()

    async def row(self, document: Document) -> Row:
        name = document["ingest"]["id"]
        found = await asyncio.gather(*(self._sample(document, sample) for sample in samples_of(document)))
        levels = Counter(sample["level"] for sample in found)
        statuses = Counter(response["status"] for sample in found for response in sample["responses"])
        counts = {
            **levels,
            **Counter(f"not kept: {sample['level']}" for sample in found if not sample["kept"]),
            **{status: number for status, number in statuses.items() if status in (REQUEST_FAILED, *FAILURES)},
        }
        row: Row = {"id": name, "samples": found, "counts": counts}
        if any(sample["kept"] for sample in found):
            return row
        return {**drop(name, "no_sample", ", ".join(f"{level} {number}" for level, number in levels.items())), **row}

    async def _sample(self, document: Document, sample: Row) -> Row:
        messages = prompt_of(document, sample, self.compose)
        rates: dict[str, float | None] = {}
        responses: list[Row] = []
        asked = () if sample["task"] in UNSCALED else filter(None, (self.options.small, self.options.large))
        level: Level = "not_asked"
        for server in asked:
            new = await asyncio.gather(
                *(self._response(sample, messages, server, n) for n in range(self.options.samples))
            )
            responses += new
            rates[server] = self.options.rate([response["reward"] for response in new])
            level = self.options.level(server, rates[server])
            if level != "unsolved":
                break
        about = {name: sample[name] for name in ("id", "task", "prompt_tokens")}
        return {**about, "level": level, "kept": self._keeps(sample, level), "rates": rates, "responses": responses}

    async def _response(self, sample: Row, messages: list[Message], server: str, n: int) -> Row:
        try:
            reply = await self.llms[server].chat(
                messages,
                max_tokens=self.options.max_tokens,
                temperature=self.options.temperature,
                top_p=self.options.top_p,
                seed=derive_seed(self.seed, self.name, sample["id"], server, n),
            )
        except RequestFailed as error:
            return {"server": server, "reward": None, "status": REQUEST_FAILED, "reason": str(error), "parts": {}}
        async with self.scoring:
            score = await score_async(
                data_source(sample["task"]),
                reply.text,
                sample["gold"],
                {"question": sample["question"]},
                options=self.rewards,
                isolation=self.scorer,
                truncated=reply.finish_reason == "length",
            )
        found = {"status": score.status, "reason": score.reason, "parts": score.parts}
        return {"server": server, "reward": None if score.failed else score.value, **found}

    def _keeps(self, sample: Row, level: Level) -> bool:
        if level == "easy" and derive_seed(self.seed, "easy", sample["id"]) >= self.options.easy_share * 2**31:
            return False
        return level in (*self.options.keep, "not_asked")


def kept(document: Document) -> list[tuple[Row, dict[str, Any]]]:
    """The samples of a document that are kept, each with what a training row's payload says of its difficulty: the
    level, and the pass rate of the small model; nothing where it was not asked. All of them where the stage was not
    wanted."""
    if Difficulty.name not in document:
        return [(sample, {}) for sample in samples_of(document)]
    found = {sample["id"]: _about(sample) for sample in document[Difficulty.name]["samples"] if sample["kept"]}
    return [(sample, found[sample["id"]]) for sample in samples_of(document) if sample["id"] in found]


def _about(found: Row) -> dict[str, Any]:
    rate = next(iter(found["rates"].values()), None)
    return {"difficulty": found["level"], "pass_rate": rate} if rate is not None else {}
