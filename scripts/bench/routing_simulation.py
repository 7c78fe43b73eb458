"""What a routing policy has replicas do, without replicas: one step of rollouts, from the first request to the last.

A replica prefills what it has not cached, one prompt after the other, and decodes all its responses side by side, each
at the same speed. It keeps all prefixes until the step ends. Two loads are reported per replica:

- prefill: prompt tokens that it prefilled;
- work: these and the response tokens that it decoded.

Any class with verl's `RequestLoadBalancer` interface can be simulated, verl's own too.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PREFILL_PER_S, DECODE_PER_S = 20_000.0, 40.0
"""Tokens a second of a replica's prefill, and of one response's decoding."""
SHORTEST, LONGEST = 1024, 128 * 1024


@dataclass(frozen=True)
class Request:
    """A rollout: when it is asked for, of which prompt, and how many tokens prompt and response have."""

    at_s: float
    prompt: int
    prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True)
class Loads:
    """Tokens by replica, and when the last response was there."""

    prefill: list[int]
    work: list[int]
    seconds: float

    @staticmethod
    def unevenness(loads: Sequence[int]) -> float:
        """The largest in multiples of the mean."""
        return max(loads) * len(loads) / sum(loads)


def skewed_step(
    prompts: int, rollouts: int, seed: int, over_s: float = 5.0, limit: int = 4096, spread: float = 1.2
) -> list[Request]:
    """Rollouts of a step, in order of time: lognormal prompts of 1K to 128K tokens (median 12K), coming in over
    `over_s` seconds; responses of up to `limit` tokens, alike within a prompt."""
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
    """Route the requests, releasing each when it would be answered. limit: of a response, as the balancer is told."""
    names = balancer.get_all_servers()
    wanted = balancer.require_acquire_fields()
    cached: dict[str, dict[int, float]] = {name: {} for name in names}
    free, prefill, work = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    running: list[tuple[float, str, str]] = []
    last = 0.0
    for number, request in enumerate(requests):
        while running and running[0][0] <= request.at_s:
            last, name, request_id = heapq.heappop(running)
            balancer.release_server(name, request_id=request_id)
        about = {
            "prompt_key": b"%d" % request.prompt,
            "prompt_tokens": request.prompt_tokens,
            "response_tokens": limit,
        }
        name, _ = balancer.acquire_server(f"{number}", **{field: about[field] for field in wanted})
        if request.prompt not in cached[name]:
            free[name] = max(free[name], request.at_s) + request.prompt_tokens / PREFILL_PER_S
            cached[name][request.prompt] = free[name]
            prefill[name] += request.prompt_tokens
            work[name] += request.prompt_tokens
        work[name] += request.response_tokens
        done = max(request.at_s, cached[name][request.prompt]) + request.response_tokens / DECODE_PER_S
        heapq.heappush(running, (done, name, f"{number}"))
    while running:
        last, name, request_id = heapq.heappop(running)
        balancer.release_server(name, request_id=request_id)
    return Loads(list(prefill.values()), list(work.values()), last)
