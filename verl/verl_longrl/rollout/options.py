"""Options of prompt-affinity routing, given in the router's YAML file next to `router_class`."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from verl_longrl.options import Options


@dataclass(frozen=True)
class AffinityOptions(Options):
    """When a rollout leaves its prompt's replica, and how much the router remembers."""

    spill_cost: Annotated[float, Ge(1)] = 2.0
    """Difference in load between replicas, in multiples of the prompt's length, that is worth prefilling the prompt
    again. Below 1, a prompt's own prefill would make the router move it. At 1 the difference can be this prefill alone,
    so nothing is gained; at 2 a move gains as much as it costs."""
    tolerance: NonNegativeFloat = 0.2
    """Difference in load, in multiples of the mean load, that is ignored."""
    response_share: NonNegativeFloat = 0.5
    """Expected length of a response, as a share of the longest that is allowed."""
    max_prompts: PositiveInt = 10_000
    """Prompts whose replicas are remembered."""
    max_conversations: PositiveInt = 100_000
    """Conversations whose replica is remembered."""
