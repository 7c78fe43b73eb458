"""Measure models on long-context benchmarks: rows, requests, rules, statistics and reports."""
