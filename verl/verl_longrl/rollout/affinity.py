"""A prompt's rollouts go to the replica that has its prefix cached: a long prompt is prefilled once, not n times.

vLLM prefills a prompt once however many requests for it arrive together: blocks count as cached as soon as they are
scheduled (measured by scripts/bench/routing.py). So it takes no more than that a prompt's n rollouts meet on one
replica. verl's balancer sends each to the replica with fewest requests, and up to n replicas prefill the prompt.

Work is counted in tokens. A replica's *prefill* is the prompt tokens that it was given and did not have; its *load* is
that plus the responses in flight, each counted as a share of the most it may become. Three rules:

1. A new prompt goes to the replica whose share of all prefill, or of all load, whichever is larger, is smallest. So
   both stay even: prefill is what computes at the start of a step, decoding what takes its time.
2. A further rollout goes to the prompt's own replica, unless that one's load exceeds the least loaded's by more than
   `spill_cost` times the prompt, which the other must prefill, plus `tolerance` times the mean load. The other then
   has the prefix too, and the next rollout goes to the one of the two with less load.
3. A further turn of a conversation (same request id) stays where its earlier turns are.

Equal replicas are told apart by their prefill, and then by the order in which they were added, so the same calls have
the same answers. A prompt longer than a replica's fair share is not divided: it stays whole on one replica, which gets
no new prompts until the others have caught up.

Prefill is summed up until nothing is in flight any more. That is the end of a step, after which weights change and
replicas forget their caches; what is known here about prompts is forgotten with them. (Should it be a pause and no end,
the prompt's next rollout starts anew: at worst one prefill more.)
"""

from __future__ import annotations

import heapq
import time
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from cachetools import LRUCache

from verl_longrl.rollout.options import AffinityOptions


def prompt_key(prompt_ids: Sequence[int]) -> bytes:
    """16 bytes that stand for a prompt of any length."""
    return blake2b(array("q", prompt_ids).tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class _Request:
    """One in flight: the response tokens expected, its prompt's tokens, and when (monotonic seconds) it was sent."""

    expected: int
    prompt_tokens: int
    since: float


@dataclass(eq=False)
class _Server:
    """A replica, from when it is added to when it is removed; added again it is another one, with an empty cache."""

    handle: Any
    prefill: int = 0
    decoding: int = 0
    running: defaultdict[str, list[_Request]] = field(default_factory=lambda: defaultdict(list))

    @property
    def load(self) -> int:
        return self.prefill + self.decoding

    @property
    def inflight(self) -> int:
        return sum(map(len, self.running.values()))


class PromptAffinityBalancer:
    """verl's `RequestLoadBalancer` with the rules of the module's docstring.

    servers: name -> handle, returned as it is. config: the router's YAML file, `AffinityOptions` beside `router_class`.
    """

    def __init__(self, servers: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
        given = {name: value for name, value in (config or {}).items() if name != "router_class"}
        self.options = AffinityOptions.from_dict(given)
        self._servers: dict[str, _Server] = {}
        self._holders: LRUCache[bytes, list[str]] = LRUCache(self.options.max_prompts)
        self._conversations: LRUCache[str, tuple[_Server, str, int]] = LRUCache(self.options.max_conversations)
        self._inflight = 0
        self._counts = {"requests": 0, "prompt_tokens": 0, "prefill_tokens": 0, "spilled": 0}
        self.add_servers(servers)

    # ---- requests -------------------------------------------------------------------------------------------

    def require_acquire_fields(self) -> list[str]:
        """What `acquire_server` wants to know of a request; PromptAffinityClient sends it."""
        return ["prompt_key", "prompt_tokens", "response_tokens"]

    def require_release_fields(self) -> list[str]:
        return ["request_id"]

    def acquire_server(
        self, request_id: str, prompt_key: bytes | None = None, prompt_tokens: int = 0, response_tokens: int = 0
    ) -> tuple[str, Any]:
        """The replica for a request, as (name, handle).

        prompt_key: equal for equal prompts; None for one that no other equals. prompt_tokens: its length.
        response_tokens: the most that may be generated. Raises RuntimeError when there are no servers.
        """
        if not self._servers:
            raise RuntimeError("No available servers in load balancer")
        expected = round(self.options.response_share * response_tokens)
        server, name, known = self._conversations.get(request_id, (None, "", 0))
        if server is not None and self._servers.get(name) is server:
            fresh = max(0, prompt_tokens - known)
        else:
            name, fresh = self._place(prompt_key, prompt_tokens)
            server = self._servers[name]
        self._conversations[request_id] = (server, name, prompt_tokens)
        server.prefill += fresh
        server.decoding += expected
        server.running[request_id].append(_Request(expected, prompt_tokens, time.monotonic()))
        self._inflight += 1
        self._counts["requests"] += 1
        self._counts["prompt_tokens"] += prompt_tokens
        self._counts["prefill_tokens"] += fresh
        return name, server.handle

    def release_server(self, server_id: str, request_id: str | None = None) -> None:
        """A request has been answered. One whose server has been removed since is no longer counted."""
        server = self._servers.get(server_id)
        if server is None or request_id is None or request_id not in server.running:
            return
        waiting = server.running[request_id]
        server.decoding -= waiting.pop(0).expected
        if not waiting:
            del server.running[request_id]
        self._ended(1)

    def _place(self, key: bytes | None, tokens: int) -> tuple[str, int]:
        """The replica for a first turn, and the tokens that it must prefill."""
        holders = [] if key is None else self._holders.get(key, [])
        if not holders:
            name = self._idlest()
        else:
            name, least = self._least_loaded(holders), self._least_loaded(self._servers)
            gap = self._servers[name].load - self._servers[least].load
            mean = sum(server.load for server in self._servers.values()) / len(self._servers)
            if gap > self.options.spill_cost * tokens + self.options.tolerance * mean:
                name = least
                self._counts["spilled"] += 1
        if key is not None:
            self._holders[key] = holders if name in holders else [*holders, name]
        return name, 0 if name in holders else tokens

    def _idlest(self) -> str:
        """Rule 1."""
        prefill = sum(server.prefill for server in self._servers.values()) or 1
        load = sum(server.load for server in self._servers.values()) or 1

        def share(name: str) -> tuple[float, int]:
            server = self._servers[name]
            return max(server.prefill / prefill, server.load / load), server.prefill

        return min(self._servers, key=share)

    def _least_loaded(self, names: Iterable[str]) -> str:
        return min(names, key=lambda name: (self._servers[name].load, self._servers[name].prefill))

    def _ended(self, requests: int) -> None:
        self._inflight -= requests
        if self._inflight == 0:
            self._forget_prompts()

    def _forget_prompts(self) -> None:
        self._holders.clear()
        for server in self._servers.values():
            server.prefill = 0

    # ---- servers --------------------------------------------------------------------------------------------

    def add_servers(self, servers: Mapping[str, Any]) -> None:
        """New replicas start level with the one that has prefilled least, so they are not flooded."""
        self.remove_servers([name for name in servers if name in self._servers])
        level = min((server.prefill for server in self._servers.values()), default=0)
        self._servers.update({name: _Server(handle, prefill=level) for name, handle in servers.items()})

    def remove_servers(self, server_ids: Sequence[str]) -> None:
        """Their conversations and prompts go elsewhere; unknown names are passed over, as verl does."""
        gone = {name: self._servers.pop(name) for name in server_ids if name in self._servers}
        for key, holders in list(self._holders.items()):
            self._holders[key] = [name for name in holders if name not in gone]
        if gone:
            self._ended(sum(server.inflight for server in gone.values()))

    def get_all_servers(self) -> list[str]:
        return list(self._servers)

    def get_total_inflight(self) -> int:
        return self._inflight

    def get_status(self) -> dict[str, Any]:
        """What verl's balancer says, and since the start: requests, the tokens of their prompts, how many of these
        replicas had to prefill, and the rollouts that left their prompt's replica."""
        return {
            "servers": {name: server.inflight for name, server in self._servers.items()},
            "total_inflight": self._inflight,
            "active_servers": len(self._servers),
            "registered_handles": list(self._servers),
            "prompts_known": len(self._holders),
            **self._counts,
        }

    def oldest_requests(self, count: int) -> list[tuple[str, float, int]]:
        """Those longest in flight, as (server, seconds, tokens of the prompt), the oldest first."""
        now = time.monotonic()
        inflight = (
            (name, now - request.since, request.prompt_tokens)
            for name, server in self._servers.items()
            for waiting in server.running.values()
            for request in waiting
        )
        return heapq.nlargest(count, inflight, key=lambda request: request[1])

    def clear_sticky_cache(self) -> dict[str, Any]:
        """Forget conversations and prompts; what is in flight stays counted."""
        cleared = len(self._conversations)
        self._conversations.clear()
        self._forget_prompts()
        return {"cleared_entries": cleared, "server_loads": self.get_status()["servers"]}
