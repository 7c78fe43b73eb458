"""The keys of evaluation in training. The suites themselves are in `recipe.longrl.evaluation.suites`."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from verl_longrl.options import OneOrMore, Options


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """Benchmarks that the trainer's own vLLM replicas answer during training, on rows that are not reported later
    (docs/evaluation.md)."""

    suites: OneOrMore = ()
    """Sets of `profile`, or benchmarks; empty: none is run."""
    every: PositiveInt | None = None
    """Steps between two evaluations; null: with each checkpoint (`trainer.save_freq`). There is one before the first
    step, unless `trainer.val_before_train` is false, and one after the last step."""
    limit: PositiveInt = 64
    """Rows of each suite, spread over its tasks and lengths."""
    profile: str = "training"
    """A profile of the evaluation, by name, or a YAML file."""
    sets: dict[str, Any] = field(default_factory=dict)
    """Changes of the suites, with the keys of a profile's set: {ruler: {options: {lengths: [4096]}}}."""
