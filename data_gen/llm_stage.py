"""Stages that call models: their clients, opened and closed, what they spend, and replies that follow rules."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from verl_longrl.options import Options

from data_gen.llm import LLM, LLMOptions, Messages, RequestFailed
from data_gen.llm_json import BrokenRule, UnreadableReply, read_json
from data_gen.pipeline import DocumentStage
from data_gen.reply_cache import PartCaches
from data_gen.store import Store, StoreError
from data_gen.text import derive_seed

T = TypeVar("T")
SKIPPED = "skipped"
"""The status of a reply in which the model explains why it cannot do what was asked; it is not requested again."""


class LLMStage(DocumentStage):
    """A stage with clients: `llms`, by server name, between `open` and `close`.

    structured: whether it requests JSON that follows a schema.

    Args:
        options: of the stage.
        servers: those that it asks, by name.
        seed: the run's seed, from which the seeds of all requests are derived.
    """

    structured: ClassVar[bool] = False

    def __init__(self, options: Options, servers: Mapping[str, LLMOptions], seed: int):
        self.options, self.servers, self.seed = options, servers, seed
        self.llms: dict[str, LLM] = {}
        self.window = max(1, sum(options.concurrency for options in servers.values()))

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, **self.block_settings(self.options), **self.server_settings()}

    def server_settings(self) -> dict[str, Any]:
        """The settings of the servers that change results: the model and the fields of requests, but not addresses."""
        return {
            f"servers.{name}.{key}": getattr(server, key)
            for name, server in self.servers.items()
            for key in ("model", "extra_body", "structured")
        }

    def _create_clients(self, store: Store) -> None:
        self.caches = PartCaches(store.root / "replies", store.own_parts())
        for name, options in self.servers.items():
            self.llms[name] = LLM(options, self.caches, f"{self.name} {name}")

    async def open(self, store: Store) -> None:
        self._create_clients(store)
        for name, llm in self.llms.items():
            await llm.open()
            # Whether JSON is decoded by a schema changes replies, so the first process of the stage decides it for all.
            recorded = store.recorded(self.name, f"server-{name}") or {}
            if not recorded and self.structured:
                recorded = {"structured": await llm.can_structure()}
            recorded = require_same_model(store, self.name, name, llm.model, recorded)
            llm.structured = recorded.get("structured", llm.structured)
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
        """The result of `read` for the JSON object in a reply.

        A reply that cannot be read or breaks a rule (`read` raises BrokenRule or UnreadableReply) is requested again,
        up to `attempts` times in all, each time with another seed that is derived from `key`.

        Raises BrokenRule for the last reply: unreadable, no_reply (the servers refuse this request), or a rule's own
        status.
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

    def enter_part(self, part: str) -> None:
        self.caches.enter(part)

    def leave_part(self, part: str) -> None:
        self.caches.leave(part)

    async def close(self) -> None:
        for llm in self.llms.values():
            await llm.close()
        self.caches.close()

    def totals(self, store: Store) -> Mapping[str, float]:
        if not self.llms:
            # No part was missing, so `open` was never called: read from the cache what earlier processes spent.
            self._create_clients(store)
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


def require_same_model(
    store: Store, stage: str, server: str, model: str, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The facts about a server that the first process of a stage recorded: its model (even if the configuration does
    not name it), and `more`.

    Raises StoreError when the server serves another model now.
    """
    recorded = store.record_first(stage, f"server-{server}", {**(more or {}), "model": model})
    if recorded["model"] != model:
        raise StoreError(
            f"{store.root / stage} was made with {recorded['model']}, now servers.{server} serves {model}. Fix: serve "
            f"{recorded['model']} again, or make this stage and all after it again with --redo {stage}"
        )
    return recorded
