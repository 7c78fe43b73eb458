"""A router that sends all rollouts of a prompt to one replica, so that a long prompt is prefilled once, not n times.

vLLM prefills a prompt once even if many requests for it arrive together: blocks count as cached as soon as they are
scheduled (measured by scripts/bench/routing.py). So it is enough that a prompt's n rollouts meet on one replica. verl's
balancer sends each to the replica with the fewest requests, and up to n replicas prefill the prompt.

Work is counted in tokens. A replica's *prefill* is the number of prompt tokens that it received and had not cached. Its
*load* is the prefill plus the responses in flight, each counted as a fraction of its length limit. Three rules:

1. A new prompt goes to the replica whose share of all prefill, or of all load, whichever is larger, is smallest. So
   both stay even: prefill is most of the work at the begin of a step, decoding is most of its time.
2. A further rollout goes to the prompt's replica, unless the load of that replica exceeds that of the least loaded one
   by more than `spill_cost` times the prompt, which the other must prefill, plus `tolerance` times the mean load. The
   other replica then has the prefix too, and the next rollout goes to the one of the two with less load.
3. A further turn of a conversation (same request id) stays on the replica of its earlier turns.

Example of rule 2 with spill_cost 2 and tolerance 0.2: a prompt of 10,000 tokens, replicas with loads 60,000 (has the
prompt) and 30,000. The gap of 30,000 is more than 2 * 10,000 + 0.2 * 45,000 = 29,000, so the rollout is moved.

Ties are broken by prefill, then by the order in which replicas were added, so the same calls give the same answers. A
prompt longer than a replica's fair share is not divided: it stays on one replica, which gets no new prompts until the
others have caught up.

Prefill is summed until nothing is in flight. That is the end of a step, after which weights change and replicas drop
their caches, so the router forgets prompts as well. If it was only a pause, the prompt's next rollout costs at most one
more prefill.
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
    """A digest of 16 bytes of a prompt's tokens."""
    return blake2b(array("q", prompt_ids).tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class _RequestInFlight:
    """expected: response tokens. prompt_tokens: length of its prompt. since: monotonic seconds at which it was sent."""

    expected: int
    prompt_tokens: int
    since: float


@dataclass(eq=False)
class _RoutedReplica:
    """A replica, from when it is added until it is removed. Added again it is a new one, with an empty cache."""

    handle: Any
    prefill: int = 0
    """Prompt tokens prefilled since the step began."""
    decoding: int = 0
    """Response tokens expected of the requests in flight."""
    running: defaultdict[str, list[_RequestInFlight]] = field(default_factory=lambda: defaultdict(list))

    @property
    def load(self) -> int:
        return self.prefill + self.decoding

    @property
    def inflight(self) -> int:
        return sum(map(len, self.running.values()))


class PromptAffinityBalancer:
    """verl's `RequestLoadBalancer` with the rules of the module's docstring.

    servers: name -> handle, which is returned unchanged. config: the content of the router's YAML file, that is
    `router_class` and fields of `AffinityOptions`.
    """

    def __init__(self, servers: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
        options = {name: value for name, value in (config or {}).items() if name != "router_class"}
        self.options = AffinityOptions.from_dict(options)
        self._servers: dict[str, _RoutedReplica] = {}
        # prompt_key -> names of the replicas that have the prompt cached
        self._holders: LRUCache[bytes, list[str]] = LRUCache(self.options.max_prompts)
        # request id -> replica of the last turn, its name, and the tokens of that turn's prompt
        self._conversations: LRUCache[str, tuple[_RoutedReplica, str, int]] = LRUCache(self.options.max_conversations)
        self._inflight = 0
        self._counts = {"requests": 0, "prompt_tokens": 0, "prefill_tokens": 0, "spilled": 0}
        self.add_servers(servers)

    # ---- requests -------------------------------------------------------------------------------------------

    def require_acquire_fields(self) -> list[str]:
        """The arguments of `acquire_server` that PromptAffinityClient must send."""
        return ["prompt_key", "prompt_tokens", "response_tokens"]

    def require_release_fields(self) -> list[str]:
        return ["request_id"]

    def acquire_server(
        self, request_id: str, prompt_key: bytes | None = None, prompt_tokens: int = 0, response_tokens: int = 0
    ) -> tuple[str, Any]:
        """The replica for a request, as (name, handle).

        prompt_key: equal for equal prompts; None for a prompt that occurs once. prompt_tokens: its length.
        response_tokens: the limit of the response. Raises RuntimeError when there are no servers.
        """
        if not self._servers:
            raise RuntimeError("No available servers in load balancer")
        expected = round(self.options.response_share * response_tokens)
        server, name, cached = self._conversations.get(request_id, (None, "", 0))
        # The identity matters: a replica that was removed and added again has lost its cache.
        if server is not None and self._servers.get(name) is server:
            # A turn's prompt begins with that of the turn before: one of 12,000 tokens after one of 10,000 costs 2,000.
            to_prefill = max(0, prompt_tokens - cached)
        else:
            name, to_prefill = self._place(prompt_key, prompt_tokens)
            server = self._servers[name]
        self._conversations[request_id] = (server, name, prompt_tokens)
        server.prefill += to_prefill
        server.decoding += expected
        server.running[request_id].append(_RequestInFlight(expected, prompt_tokens, time.monotonic()))
        self._inflight += 1
        self._counts["requests"] += 1
        self._counts["prompt_tokens"] += prompt_tokens
        self._counts["prefill_tokens"] += to_prefill
        return name, server.handle

    def release_server(self, server_id: str, request_id: str | None = None) -> None:
        """A request has been answered. Requests of a server that was removed since are not counted any more."""
        server = self._servers.get(server_id)
        if server is None or request_id is None or request_id not in server.running:
            return
        # Several where a client reuses the id; the oldest ends first.
        requests = server.running[request_id]
        server.decoding -= requests.pop(0).expected
        if not requests:
            del server.running[request_id]
        self._finish(1)

    def _place(self, key: bytes | None, tokens: int) -> tuple[str, int]:
        """The replica for a first turn, and the tokens that it must prefill (rules 1 and 2)."""
        holders = [] if key is None else self._holders.get(key, [])
        if not holders:
            name = self._replica_for_new_prompt()
        else:
            name, least_loaded = self._least_loaded(holders), self._least_loaded(self._servers)
            gap = self._servers[name].load - self._servers[least_loaded].load
            mean_load = sum(server.load for server in self._servers.values()) / len(self._servers)
            if gap > self.options.spill_cost * tokens + self.options.tolerance * mean_load:
                name = least_loaded
                self._counts["spilled"] += 1
        if key is not None:
            # Also for a rollout that was moved: its new replica has the prompt from now on.
            self._holders[key] = holders if name in holders else [*holders, name]
        return name, 0 if name in holders else tokens

    def _replica_for_new_prompt(self) -> str:
        """Rule 1."""
        # Before the first request all sums are 0, and so are all shares.
        total_prefill = sum(server.prefill for server in self._servers.values()) or 1
        total_load = sum(server.load for server in self._servers.values()) or 1

        def share(name: str) -> tuple[float, int]:
            server = self._servers[name]
            # The second number decides between equal shares.
            return max(server.prefill / total_prefill, server.load / total_load), server.prefill

        return min(self._servers, key=share)

    def _least_loaded(self, names: Iterable[str]) -> str:
        return min(names, key=lambda name: (self._servers[name].load, self._servers[name].prefill))

    def _finish(self, requests: int) -> None:
        self._inflight -= requests
        # The end of a step.
        if self._inflight == 0:
            self._forget_prompts()

    def _forget_prompts(self) -> None:
        self._holders.clear()
        for server in self._servers.values():
            server.prefill = 0

    # ---- servers --------------------------------------------------------------------------------------------

    def add_servers(self, servers: Mapping[str, Any]) -> None:
        """Add replicas, or replace those of the same name."""
        self.remove_servers([name for name in servers if name in self._servers])
        # At 0 a new replica would get every new prompt until it has caught up with the others.
        least_prefill = min((server.prefill for server in self._servers.values()), default=0)
        self._servers.update({name: _RoutedReplica(handle, prefill=least_prefill) for name, handle in servers.items()})

    def remove_servers(self, server_ids: Sequence[str]) -> None:
        """Remove replicas; their conversations and prompts go to others. Unknown names are ignored, as in verl."""
        removed = {name: self._servers.pop(name) for name in server_ids if name in self._servers}
        for key, holders in list(self._holders.items()):
            self._holders[key] = [name for name in holders if name not in removed]
        # Their requests will not be released, because release_server ignores servers that are gone.
        if removed:
            self._finish(sum(server.inflight for server in removed.values()))

    def get_all_servers(self) -> list[str]:
        return list(self._servers)

    def get_total_inflight(self) -> int:
        return self._inflight

    def get_status(self) -> dict[str, Any]:
        """The status of verl's balancer, and counts since the start: requests, tokens of their prompts, how many of
        these replicas had to prefill, and rollouts that were moved away from their prompt's replica (spilled)."""
        return {
            "servers": {name: server.inflight for name, server in self._servers.items()},
            "total_inflight": self._inflight,
            "active_servers": len(self._servers),
            "registered_handles": list(self._servers),
            "prompts_known": len(self._holders),
            **self._counts,
        }

    def oldest_requests(self, count: int) -> list[tuple[str, float, int]]:
        """The requests longest in flight, as (server, seconds, tokens of the prompt), the oldest first."""
        now = time.monotonic()
        in_flight: list[tuple[str, float, int]] = []
        for name, server in self._servers.items():
            for requests in server.running.values():
                in_flight += [(name, now - request.since, request.prompt_tokens) for request in requests]
        return heapq.nlargest(count, in_flight, key=lambda request: request[1])

    def clear_sticky_cache(self) -> dict[str, Any]:
        """Forget conversations and prompts. Requests in flight stay counted."""
        cleared = len(self._conversations)
        self._conversations.clear()
        self._forget_prompts()
        return {"cleared_entries": cleared, "server_loads": self.get_status()["servers"]}
