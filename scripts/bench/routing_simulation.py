"""Simulate how a routing policy distributes one step of rollouts over replicas, from the first request to the last.

A replica prefills prompts that it has not cached, one after the other, and decodes all its responses concurrently, each
at the same speed. It keeps all prefixes until the step ends. Two loads are reported for each replica:

- prefill: prompt tokens that it prefilled
- work: the same plus the response tokens that it decoded

Any class with verl's `RequestLoadBalancer` interface can be simulated, including verl's own.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PREFILL_PER_S, DECODE_PER_S = 20_000.0, 40.0
"""Tokens per second: prefill of a replica, and decoding of one response."""
SHORTEST, LONGEST = 1024, 128 * 1024
"""Tokens of a prompt."""


@dataclass(frozen=True)
class Request:
    """A rollout. at_s: the time of the request, in seconds. prompt: a number."""

    at_s: float
    prompt: int
    prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True)
class Loads:
    """Tokens by replica, and the time of the last response."""

    prefill: list[int]
    work: list[int]
    seconds: float

    @staticmethod
    def unevenness(loads: Sequence[int]) -> float:
        """The largest load divided by the mean."""
        return max(loads) * len(loads) / sum(loads)


def skewed_step(
    prompts: int, rollouts: int, seed: int, over_s: float = 5.0, limit: int = 4096, spread: float = 1.2
) -> list[Request]:
    """The rollouts of a step, sorted by time.

    Prompt lengths are lognormal, 1K to 128K tokens with a median of 12K; prompts arrive over `over_s` seconds.
    Responses have up to `limit` tokens, with similar lengths within a prompt.
    """
    draw = random.Random(seed)
    requests = []
    for prompt in range(prompts):
        tokens = min(LONGEST, max(SHORTEST, round(draw.lognormvariate(math.log(12_000), spread))))
        start, typical = draw.uniform(0, over_s), draw.lognormvariate(math.log(limit / 5), 0.6)
        for _ in range(rollouts):
            response = min(limit, max(1, round(draw.lognormvariate(math.log(typical), 0.5))))
            requests.append(Request(start + draw.uniform(0, 0.5), prompt, tokens, response))
    return sorted(requests, key=lambda request: request.at_s)


def simulate(balancer: Any, requests: Sequence[Request], limit: int = 4096) -> Loads:
    """Route the requests, and release each when its response would be complete.

    limit: the largest number of response tokens, which the balancer is told.
    """
    names = balancer.get_all_servers()
    required_fields = balancer.require_acquire_fields()
    cached: dict[str, dict[int, float]] = {name: {} for name in names}
    free, prefill, work = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    running: list[tuple[float, str, str]] = []
    last_s = 0.0
    for number, request in enumerate(requests):
        while running and running[0][0] <= request.at_s:
            last_s, name, request_id = heapq.heappop(running)
            balancer.release_server(name, request_id=request_id)
        fields = {
            "prompt_key": b"%d" % request.prompt,
            "prompt_tokens": request.prompt_tokens,
            "response_tokens": limit,
        }
        name, _ = balancer.acquire_server(f"{number}", **{field: fields[field] for field in required_fields})
        if request.prompt not in cached[name]:
            free[name] = max(free[name], request.at_s) + request.prompt_tokens / PREFILL_PER_S
            cached[name][request.prompt] = free[name]
            prefill[name] += request.prompt_tokens
            work[name] += request.prompt_tokens
        work[name] += request.response_tokens
        done = max(request.at_s, cached[name][request.prompt]) + request.response_tokens / DECODE_PER_S
        heapq.heappush(running, (done, name, f"{number}"))
    while running:
        last_s, name, request_id = heapq.heappop(running)
        balancer.release_server(name, request_id=request_id)
    return Loads(list(prefill.values()), list(work.values()), last_s)
