"""Options of how a model is sampled, for stages that request replies. Each stage states its own defaults."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Gt, Le
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import Options

TopP = Annotated[float, Gt(0), Le(1)]
"""A nucleus sampling threshold."""


@dataclass(frozen=True)
class SamplingOptions(Options):
    """How replies are sampled."""

    temperature: NonNegativeFloat = 0.7
    """Sampling temperature."""
    max_tokens: PositiveInt = 16384
    """Longest reply, in tokens."""

    @property
    def sampling(self) -> dict[str, Any]:
        """The arguments of `LLM.chat` for these options."""
        return {"temperature": self.temperature, "max_tokens": self.max_tokens}


@dataclass(frozen=True)
class NucleusSamplingOptions(SamplingOptions):
    """How replies are sampled, with a threshold."""

    top_p: TopP = 0.95
    """Nucleus sampling threshold."""

    @property
    def sampling(self) -> dict[str, Any]:
        return {**super().sampling, "top_p": self.top_p}
