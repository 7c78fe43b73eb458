"""Benchmarks by name: where their rows come from, and the rules that score them."""

from recipe.longrl.evaluation.benchmarks.registry import REGISTRY

__all__ = ["REGISTRY"]
