"""Measure models on long-context benchmarks: `python -m recipe.longrl.evaluation --help`, docs/evaluation.md."""
