"""Options of prompt-affinity routing, given in the router's YAML file beside `router_class`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class AffinityOptions:
    """When a rollout leaves its prompt's replica, and how much is remembered."""

    spill_cost: float = 2.0
    """The difference in load, in multiples of the prompt, that is worth prefilling it again. At 1, where the difference
    can be no more than this very prompt's prefill, nothing is gained; at 2 what moves is worth as much as it costs."""
    tolerance: float = 0.2
    """The difference in load, in multiples of the mean load, that is left alone."""
    response_share: float = 0.5
    """What a response is expected to become, of the most it may."""
    max_prompts: int = 10_000
    max_conversations: int = 100_000

    def __post_init__(self) -> None:
        if self.spill_cost < 1:
            raise ValueError(f"spill_cost = {self.spill_cost}: below 1 a prompt's own prefill would drive it away")
        if self.tolerance < 0 or self.response_share < 0:
            raise ValueError(f"tolerance = {self.tolerance}, response_share = {self.response_share}: not below 0")
        if self.max_prompts < 1 or self.max_conversations < 1:
            raise ValueError(
                f"max_prompts = {self.max_prompts}, max_conversations = {self.max_conversations}: 1 or more"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AffinityOptions:
        known = [each.name for each in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"unknown router options {', '.join(unknown)}; there are {', '.join(known)}")
        return cls(**values)
