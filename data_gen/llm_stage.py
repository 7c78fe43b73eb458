"""What the stages that ask models have in common: their clients, opened and closed, and what they spent."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from data_gen.llm import LLM, LLMOptions, Messages, RequestFailed
from data_gen.llm_json import BrokenRule, UnreadableReply, read_json
from data_gen.pipeline import DocumentStage
from data_gen.reply_cache import PartCaches
from data_gen.store import Store, StoreError
from data_gen.text import derive_seed

T = TypeVar("T")
SKIPPED = "skipped"
"""The status of a reply that says why there is none; it is not asked for again."""


class AskingStage(DocumentStage):
    """A stage with clients: `llms`, by server name, between `open` and `close`.

    structured: whether it asks for JSON by schema.
    """

    structured: ClassVar[bool] = False

    def __init__(self, servers: Mapping[str, LLMOptions]):
        self.servers = servers
        self.llms: dict[str, LLM] = {}
        self.window = max(1, sum(options.concurrency for options in servers.values()))

    def server_settings(self) -> dict[str, Any]:
        """What of the servers changes results: the model and the fields sent along, not where it runs."""
        return {
            f"servers.{name}.{key}": getattr(server, key)
            for name, server in self.servers.items()
            for key in ("model", "extra_body", "structured")
        }

    def _connect(self, store: Store) -> None:
        self.caches = PartCaches(store.root / "replies", store.mine())
        for name, options in self.servers.items():
            self.llms[name] = LLM(options, self.caches, f"{self.name} {name}")

    async def open(self, store: Store) -> None:
        self._connect(store)
        for name, llm in self.llms.items():
            await llm.open()
            known = store.agreed(self.name, f"server-{name}") or {}
            if not known and self.structured:
                known = {"structured": await llm.can_structure()}
            known = keep_to_model(store, self.name, name, llm.model, known)
            llm.structured = known.get("structured", llm.structured)
            how = ""
            if self.structured:
                how = f", JSON {'by structured decoding' if llm.structured else 'as the prompt asks for it'}"
            print(f"{self.name}: servers.{name} serves {llm.model}{how}", file=sys.stderr)

    async def ask_json(
        self,
        server: str,
        messages: Messages,
        read: Callable[[dict[str, Any]], T],
        *,
        schema: Mapping[str, Any],
        keys: Sequence[str],
        attempts: int,
        key: Sequence[object],
        **sampling: Any,
    ) -> T:
        """What `read` makes of the JSON object of a reply. One that cannot be read or breaks a rule (BrokenRule,
        UnreadableReply) is asked for again, up to `attempts` times in all, each with a seed of its own made of `key`.

        Raises BrokenRule of the last one: unreadable, no_reply (the servers refuse this request), or what `read` found.
        """
        for attempt in range(attempts):
            try:
                reply = await self.llms[server].chat(
                    messages, seed=derive_seed(*key, attempt), schema=schema, **sampling
                )
                return read(read_json(reply.text, keys, reply.finish_reason))
            except RequestFailed as error:
                raise BrokenRule(f"no_reply: {error}") from error
            except UnreadableReply as error:
                broken = BrokenRule(f"unreadable: {error}")
            except BrokenRule as error:
                broken = error
            if broken.status == SKIPPED:
                break
        raise broken

    def enter(self, part: str) -> None:
        self.caches.enter(part)

    def leave(self, part: str) -> None:
        self.caches.leave(part)

    async def close(self) -> None:
        for llm in self.llms.values():
            await llm.close()
        self.caches.close()

    def totals(self, store: Store) -> Mapping[str, float]:
        if not self.llms:  # nothing was left to ask: what earlier processes spent
            self._connect(store)
        return self._spent()

    def _spent(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for llm in self.llms.values():
            total.update(llm.totals())  # type: ignore[arg-type]
        return total

    def note(self) -> str:
        totals = self._spent()
        cost = f", ${totals['cost']:.2f}" if totals["cost"] else ""
        tokens = (totals["prompt_tokens"] + totals["completion_tokens"]) / 1e6
        return f"{totals['requests']:.0f} requests, {tokens:.2f}M tokens{cost}"


def keep_to_model(
    store: Store, stage: str, server: str, model: str, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a stage's first process found out about a server: its model (whether or not the configuration names it), and
    `more`.

    Raises StoreError when the server serves another model now.
    """
    known = store.agree(stage, f"server-{server}", {**(more or {}), "model": model})
    if known["model"] != model:
        raise StoreError(
            f"{store.root / stage} was made with {known['model']}, now servers.{server} serves {model}; serve "
            f"{known['model']} again, or use --redo {stage} to make the stage and what follows anew"
        )
    return known
