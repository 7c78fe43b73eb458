"""The measurement of a CPU trainer's memory: its processes, its batches, its bar."""

import random

import host_memory
import pytest

pytestmark = pytest.mark.engine


def step(peak: float, user: float = 1.0, system: float = 0.5) -> dict[str, float]:
    return {"peak_gib": peak, "user_s": user, "system_s": system}


def test_growth_is_that_after_the_fifth_step():
    peaks = [2.0, 3.0, 4.0, 3.0, 3.5, 4.2, 4.0]
    summary = host_memory.summarize([step(peak) for peak in peaks])
    assert (summary["settled_peak_gib"], summary["highest_peak_gib"], summary["growth"]) == (4.0, 4.2, 0.05)
    assert (summary["cpu_s_per_step"], summary["system_s_per_step"]) == (1.5, 0.5)


def test_batches_are_the_same_in_both_processes_and_within_the_ranges():
    first, second = (host_memory.draw_batch(random.Random(3), 4, 100) for _ in range(2))
    assert all(a.equal(b) for rows in zip(first, second, strict=True) for a, b in zip(*rows, strict=True))
    prompts = {prompt.data_ptr(): len(prompt) for prompt, _ in first}
    assert len(prompts) == 4
    assert all(600 <= length <= 700 for length in prompts.values())
    assert all(20 <= len(response) <= 400 for _, response in first)
    assert 16 <= len(first) <= 32


def test_only_one_process_has_the_settings_of_the_allocator(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "0")
    returned, kept = (host_memory.variant_environment(variant) for variant in host_memory.VARIANTS)
    assert returned.items() - kept.items() == {("MALLOC_ARENA_MAX", "1")}
    assert kept.items() <= returned.items()
    assert "MALLOC_TOP_PAD_" not in kept
