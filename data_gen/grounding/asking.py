"""What the stages that ask models have in common: their clients, opened and closed, and what they spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_gen.cache import ReplyCache
from data_gen.llm import LLM, LLMOptions
from data_gen.pipeline import DocumentStage
from data_gen.store import Store


class AskingStage(DocumentStage):
    """A stage with clients: `llms`, by server name, between `open` and `close`; the file `replies` is their cache."""

    def __init__(self, servers: Mapping[str, LLMOptions], replies: Path):
        self.servers, self.replies = servers, replies
        self.llms: dict[str, LLM] = {}
        self.cache: ReplyCache | None = None
        self.window = sum(options.concurrency for options in servers.values())

    def server_settings(self) -> dict[str, Any]:
        """What of the servers changes results: the model and the fields sent along, not where it runs."""
        return {
            f"servers.{name}.{key}": getattr(server, key)
            for name, server in self.servers.items()
            for key in ("model", "extra_body", "structured")
        }

    def _create(self) -> ReplyCache:
        self.cache = ReplyCache(self.replies)
        for name, options in self.servers.items():
            self.llms[name] = LLM(options, self.cache, f"{self.name} {name}")
        return self.cache

    async def open(self, store: Store) -> None:
        self._create()
        for llm in self.llms.values():
            await llm.open()

    async def close(self) -> None:
        for llm in self.llms.values():
            await llm.close()
        if self.cache is not None:
            self.cache.close()

    def totals(self) -> Mapping[str, float]:
        if not self.llms:  # nothing was left to ask: what earlier processes spent
            self._create().close()
        total: Counter[str] = Counter()
        for llm in self.llms.values():
            total.update(llm.totals())  # type: ignore[arg-type]
        return total

    def note(self) -> str:
        totals = self.totals()
        cost = f", ${totals['cost']:.2f}" if totals["cost"] else ""
        tokens = (totals["prompt_tokens"] + totals["completion_tokens"]) / 1e6
        return f"{totals['requests']:.0f} requests, {tokens:.2f}M tokens{cost}"
