"""Stage filter: questions that are neither known nor hopeless, by asking a model several times with the passages at
hand.

LoongRL's rule (paper, section 3.1): eight answers, and those questions stay that some but not all get right. What the
model never gets right may be given to a second, stronger one, and stays by the same rule. Answers are scored as in
training. Without a server named, every question stays.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from verl_longrl.rewards import score
from verl_longrl.rewards.options import Options, number

from data_gen.keychain import prompts
from data_gen.keychain.passage_pool import ENDING, body
from data_gen.llm import LLMOptions, RequestFailed, check_sampling
from data_gen.llm_stage import AskingStage
from data_gen.store import Document, Row, drop
from data_gen.text import derive_seed


@dataclass(frozen=True)
class FilterOptions(Options):
    """server: which of `servers` answers; "" for no filter. rescue: which answers what that one never gets right; ""
    for none. samples: answers of each. above, below: a question stays when its share of right answers is between the
    two; the default drops those that are never or always right. The others: sampling."""

    server: str = ""
    rescue: str = ""
    samples: int = 8
    above: float = 0.0
    below: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        number("filter.samples", self.samples, 1, whole=True)
        check_sampling("filter", self)
        number("filter.above", self.above, 0, 1)
        number("filter.below", self.below, self.above, 1, open_low=True)
        if self.rescue and not self.server:
            raise ValueError(f"filter.rescue = {self.rescue} has nobody to rescue; set filter.server too")


class Filter(AskingStage):
    """Row: `rates`, by server name the share of right answers. Drops: too_hard (not above `above`), too_easy
    (not below `below`), unanswered (by most requests)."""

    name = "filter"
    after = ("questions", "haystack")

    def __init__(self, options: FilterOptions, servers: dict[str, LLMOptions], seed: int):
        super().__init__(servers)
        self.options, self.seed = options, seed

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, **self.named(self.options), **self.server_settings()}

    async def row(self, document: Document) -> Row:
        row, options = document["questions"], self.options
        rates: dict[str, float] = {}
        for server in filter(None, (options.server, options.rescue)):
            rate = await self._rate(row, server)
            if rate is None:
                return drop(row["id"], "unanswered", f"no answer from {server}")
            rates[server] = rate
            if rate > options.above:
                break
        rate = list(rates.values())[-1] if rates else None
        made: Row = {"id": row["id"], "rates": rates, "counts": Counter({f"asked {server}": 1 for server in rates})}
        if rate is not None and rate <= options.above:
            return {**drop(row["id"], "too_hard", f"{rate:.2f}"), **made}
        if rate is not None and rate >= options.below:
            return {**drop(row["id"], "too_easy", f"{rate:.2f}"), **made}
        return made

    async def _rate(self, row: Row, server: str) -> float | None:
        """The share of right answers; None when fewer than half were answered."""
        text = "".join(
            prompts.heading(number) + body(passage["title"], passage["text"]) + ENDING
            for number, passage in enumerate(row["passages"], 1)
        )
        messages = prompts.messages(prompts.OPENING + text + prompts.plain_question(row["question"]))
        found = await asyncio.gather(*(self._right(row, messages, server, n) for n in range(self.options.samples)))
        answered = [right for right in found if right is not None]
        return sum(answered) / len(answered) if 2 * len(answered) >= len(found) else None

    async def _right(self, row: Row, messages: list[dict[str, str]], server: str, sample: int) -> bool | None:
        try:
            reply = await self.llms[server].chat(
                messages,
                max_tokens=self.options.max_tokens,
                temperature=self.options.temperature,
                top_p=self.options.top_p,
                seed=derive_seed(self.seed, "filter", row["id"], server, sample),
            )
        except RequestFailed:
            return None
        return score("loongrl_qa", reply.text, row["answers"]).value > 0.5
