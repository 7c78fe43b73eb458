"""Stage difficulty: grade samples by the pass rates of a small model and, if that fails, of a large one.

GoLongRL's two-model filter (arXiv 2605.19577), with its default thresholds:

| pass rate of the small model | level | pass rate of the large model, if the small one's is below 0.5 | level |
|---|---|---|---|
| above 0.75 | easy | above 0.75 | medium |
| 0.5 to 0.75 | medium | 0.25 to 0.75 | hard |
| | | below 0.25 | insufficient: its answer may be wrong |

Responses are scored by the sample's own reward, each in a process that can be killed. The pass rate is the mean reward,
so half of a list is half a pass, as in training; with `pass_at` it is the share of responses that earn at least this
much. A failed request or score does not count as a wrong answer: it is left out of the rate, and a sample is unanswered
if more than half of them failed. Summaries are kept without being answered, because no value of ROUGE-L means that a
summary is right.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Gt, Le
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.data.schema import Message
from verl_longrl.options import OptionError, Share
from verl_longrl.rewards import score_async
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.score import FAILURES

from data_gen.config import PipelineConfig
from data_gen.llm import LLMOptions, RequestFailed
from data_gen.llm_stage import LLMStage
from data_gen.multitask.compose import TaskComposeOptions
from data_gen.multitask.computed_tasks import data_source
from data_gen.multitask.samples import prompt_of, samples_of
from data_gen.sampling import NucleusSamplingOptions, TopP
from data_gen.store import Document, Row, Store, dropped_row
from data_gen.text import derive_seed

Level = Literal["easy", "medium", "hard", "unsolved", "insufficient", "unanswered", "not_asked"]
Kept = Literal["easy", "medium", "hard", "unsolved"]
"""Levels that may be kept; unsolved: not solved by the small model, if there is no large one."""
UNSCALED = ("summary",)
"""Tasks whose metric has no threshold above which an answer is right."""
MAX_WORKERS = 32
REQUEST_FAILED = "request_failed"
"""The status of a response that was never received, beside the statuses of scores."""


@dataclass(frozen=True)
class DifficultyOptions(NucleusSamplingOptions):
    """Options of stage difficulty."""

    small: str = ""
    """The one of `servers` with the small model; "" to skip the stage."""
    large: str = ""
    """The one of `servers` with the large model; "" for none: what the small one cannot do is then unsolved."""
    samples: PositiveInt = 8
    """Responses of each model to each sample."""
    pass_at: Annotated[float, Gt(0), Le(1)] | None = None
    """Reward from which a response counts as a pass; None: the pass rate is the mean reward."""
    small_easy: Share = 0.75
    """Pass rate of the small model above which a sample is easy."""
    small_medium: Share = 0.5
    """Pass rate of the small model from which a sample is medium; below, the large model answers too."""
    large_medium: Share = 0.75
    """Pass rate of the large model above which a sample is medium."""
    large_hard: Share = 0.25
    """Pass rate of the large model from which a sample is hard; below, it is insufficient."""
    keep: tuple[Kept, ...] = ("easy", "medium", "hard")
    """Levels to keep, besides samples that are not answered: easy, medium, hard, unsolved."""
    easy_share: Share = 1.0
    """Share of the easy samples that is kept."""
    temperature: NonNegativeFloat = 1.0
    top_p: TopP = 1.0

    def __post_init__(self) -> None:
        for lower, upper in (("small_medium", "small_easy"), ("large_hard", "large_medium")):
            if getattr(self, lower) > getattr(self, upper):
                problem = f"expected at most {upper}, {getattr(self, upper)}"
                raise OptionError(lower, getattr(self, lower), problem, f"lower it, or raise {upper}")
        if self.large and not self.small:
            raise OptionError(
                "large", self.large, "difficulty.large needs difficulty.small", "set difficulty.small too"
            )
        if self.large and self.large == self.small:
            raise OptionError("large", self.large, "is the small model too", "name another one of servers")

    def pass_rate(self, rewards: Sequence[float | None]) -> float | None:
        """The pass rate of responses, of which some may have no reward; None if more than half have none."""
        known = [reward for reward in rewards if reward is not None]
        if 2 * len(known) < len(rewards):
            return None
        return fmean(known) if self.pass_at is None else fmean(reward >= self.pass_at for reward in known)

    def level(self, server: str, rate: float | None) -> Level:
        """The level of a sample with this pass rate of this server."""
        if rate is None:
            return "unanswered"
        if server == self.small:
            return "easy" if rate > self.small_easy else "medium" if rate >= self.small_medium else "unsolved"
        return "medium" if rate > self.large_medium else "hard" if rate >= self.large_hard else "insufficient"


class DifficultyStage(LLMStage):
    """Row: `samples`, one for each sample of the document, with `id`, `task`, `prompt_tokens`, `level`, `kept`, `rates`
    (by server; None if unanswered) and `responses`: `server`, `reward` (None if there is no score), `status` (of the
    score, or request_failed), `reason`, `parts`. Drops: no_sample (none is kept; the row has all of these fields)."""

    name = "difficulty"
    summary = "have models answer, to see how hard each sample is."
    blocks: ClassVar = {"difficulty": DifficultyOptions}
    after = ("ingest", "compose", "verify")

    options: DifficultyOptions

    def __init__(
        self, options: DifficultyOptions, servers: dict[str, LLMOptions], compose: TaskComposeOptions, seed: int
    ):
        super().__init__(options, servers, seed)
        self.compose = compose
        self.rewards = RewardOptions(workers=min(MAX_WORKERS, len(os.sched_getaffinity(0))))
        self.scorer: IsolatedScorer | None = None

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options = config.block(DifficultyOptions)
        names = {"difficulty.small": options.small, "difficulty.large": options.large}
        return cls(options, config.named_servers(names), config.block(TaskComposeOptions), config.seed)

    def is_enabled(self) -> bool:
        return bool(self.options.small)

    async def open(self, store: Store) -> None:
        await super().open(store)
        self.scorer = await asyncio.to_thread(IsolatedScorer, self.rewards)
        # Cached replies arrive all at once, and scores that have to share a core would exceed their time limit.
        self.scoring = asyncio.Semaphore(self.rewards.workers)

    async def close(self) -> None:
        if self.scorer is not None:
            await asyncio.to_thread(self.scorer.close)
        await super().close()

    async def row(self, document: Document) -> Row:
        name = document["ingest"]["id"]
        graded = await asyncio.gather(*(self._grade(document, sample) for sample in samples_of(document)))
        levels = Counter(sample["level"] for sample in graded)
        statuses = Counter(response["status"] for sample in graded for response in sample["responses"])
        counts = {
            **levels,
            **Counter(f"not kept: {sample['level']}" for sample in graded if not sample["kept"]),
            **{status: number for status, number in statuses.items() if status in (REQUEST_FAILED, *FAILURES)},
        }
        row: Row = {"id": name, "samples": graded, "counts": counts}
        if any(sample["kept"] for sample in graded):
            return row
        detail = ", ".join(f"{level} {number}" for level, number in levels.items())
        return {**dropped_row(name, "no_sample", detail), **row}

    async def _grade(self, document: Document, sample: Row) -> Row:
        """The level of a sample, with the responses that decided it."""
        messages = prompt_of(document, sample, self.compose)
        rates: dict[str, float | None] = {}
        responses: list[Row] = []
        servers = () if sample["task"] in UNSCALED else filter(None, (self.options.small, self.options.large))
        level: Level = "not_asked"
        for server in servers:
            requests = [self._respond(sample, messages, server, n) for n in range(self.options.samples)]
            new = await asyncio.gather(*requests)
            responses += new
            rates[server] = self.options.pass_rate([response["reward"] for response in new])
            level = self.options.level(server, rates[server])
            if level != "unsolved":
                break
        fields = {name: sample[name] for name in ("id", "task", "prompt_tokens")}
        return {**fields, "level": level, "kept": self._keeps(sample, level), "rates": rates, "responses": responses}

    async def _respond(self, sample: Row, messages: list[Message], server: str, n: int) -> Row:
        """Response `n` of a server, scored."""
        try:
            reply = await self.llms[server].chat(
                messages,
                **self.options.sampling,
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
        verdict = {"status": score.status, "reason": score.reason, "parts": score.parts}
        return {"server": server, "reward": None if score.failed else score.value, **verdict}

    def _keeps(self, sample: Row, level: Level) -> bool:
        # A seed is a uniform number below 2**31, so this keeps easy_share of the easy samples.
        if level == "easy" and derive_seed(self.seed, "easy", sample["id"]) >= self.options.easy_share * 2**31:
            return False
        return level in (*self.options.keep, "not_asked")


def kept_samples(document: Document) -> list[tuple[Row, dict[str, Any]]]:
    """The samples of a document that are kept, each with its difficulty for the payload of the training row: the level
    and the pass rate of the small model, or nothing if it was not answered. All samples if the stage was skipped."""
    if DifficultyStage.name not in document:
        return [(sample, {}) for sample in samples_of(document)]
    graded = document[DifficultyStage.name]["samples"]
    difficulties = {sample["id"]: _payload(sample) for sample in graded if sample["kept"]}
    return [(sample, difficulties[sample["id"]]) for sample in samples_of(document) if sample["id"] in difficulties]


def _payload(graded: Row) -> dict[str, Any]:
    rate = next(iter(graded["rates"].values()), None)
    return {"difficulty": graded["level"], "pass_rate": rate} if rate is not None else {}
