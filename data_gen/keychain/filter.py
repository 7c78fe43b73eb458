"""Stage filter: keep the questions that a model, given only their own passages, answers right sometimes but not always.

LoongRL's rule (paper, section 3.1): with eight answers to each question, keep those of which some but not all are
right. A question that the model never gets right can be given to a second, stronger model, and the same rule applies.
Answers are scored as in training. Without filter.server, every question is kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar, Self

from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import OptionError, Share
from verl_longrl.rewards import score

from data_gen.config import PipelineConfig
from data_gen.keychain import prompts
from data_gen.keychain.passage_pool import ENDING, passage_body
from data_gen.llm import RequestFailed
from data_gen.llm_stage import LLMStage
from data_gen.sampling import NucleusSamplingOptions, TopP
from data_gen.store import Document, Row, dropped_row
from data_gen.text import derive_seed


@dataclass(frozen=True)
class FilterOptions(NucleusSamplingOptions):
    """Options of stage filter."""

    server: str = ""
    """The one of `servers` that answers; "" for no filter."""
    rescue: str = ""
    """The one of `servers` that answers the questions which `server` never gets right; "" for none."""
    samples: PositiveInt = 8
    """Answers of each model to each question."""
    above: Share = 0.0
    """A question is kept if its share of right answers is above this, by default above 0."""
    below: Share = 1.0
    """A question is kept if its share of right answers is below this, by default below 1."""
    temperature: NonNegativeFloat = 1.0
    top_p: TopP = 1.0
    max_tokens: PositiveInt = 2048

    def __post_init__(self) -> None:
        if self.below <= self.above:
            raise OptionError(
                "below", self.below, f"expected more than above, {self.above}", "raise it, or lower above"
            )
        if self.rescue and not self.server:
            raise OptionError("rescue", self.rescue, "filter.rescue needs filter.server", "set filter.server too")


class FilterStage(LLMStage):
    """Row: `rates`, by server name the share of right answers. Drops: too_hard (not above `above`), too_easy
    (not below `below`), unanswered (most requests failed)."""

    name = "filter"
    summary = "have a model answer, and keep what it sometimes gets right."
    blocks: ClassVar = {"filter": FilterOptions}
    after = ("questions", "haystack")

    options: FilterOptions

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options = config.block(FilterOptions)
        names = {"filter.server": options.server, "filter.rescue": options.rescue}
        return cls(options, config.named_servers(names), config.seed)

    async def row(self, document: Document) -> Row:
        row, options = document["questions"], self.options
        rates: dict[str, float] = {}
        for server in filter(None, (options.server, options.rescue)):
            rate = await self._rate(row, server)
            if rate is None:
                return dropped_row(row["id"], "unanswered", f"no answer from {server}")
            rates[server] = rate
            if rate > options.above:
                break
        counts = Counter({f"asked {server}": 1 for server in rates})
        kept: Row = {"id": row["id"], "rates": rates, "counts": counts}
        # The last model that was needed decides: the rescuing one if the first one never got it right.
        rate = list(rates.values())[-1] if rates else None
        if rate is not None and rate <= options.above:
            return {**dropped_row(row["id"], "too_hard", f"{rate:.2f}"), **kept}
        if rate is not None and rate >= options.below:
            return {**dropped_row(row["id"], "too_easy", f"{rate:.2f}"), **kept}
        return kept

    async def _rate(self, row: Row, server: str) -> float | None:
        """The share of right answers; None if more than half of the requests failed."""
        text = "".join(
            prompts.heading(number) + passage_body(passage["title"], passage["text"]) + ENDING
            for number, passage in enumerate(row["passages"], 1)
        )
        messages = prompts.messages(prompts.OPENING + text + prompts.plain_question(row["question"]))
        requests = [self._is_right(row, messages, server, n) for n in range(self.options.samples)]
        verdicts = await asyncio.gather(*requests)
        answered = [verdict for verdict in verdicts if verdict is not None]
        return sum(answered) / len(answered) if 2 * len(answered) >= len(verdicts) else None

    async def _is_right(self, row: Row, messages: list[dict[str, str]], server: str, sample: int) -> bool | None:
        """Whether an answer is right; None if the request failed."""
        try:
            reply = await self.llms[server].chat(
                messages,
                **self.options.sampling,
                seed=derive_seed(self.seed, "filter", row["id"], server, sample),
            )
        except RequestFailed:
            return None
        return score("loongrl_qa", reply.text, row["answers"]).value > 0.5
