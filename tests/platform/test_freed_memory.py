"""Memory that a process on the CPU has freed goes back to the system (verl_longrl.platform.cpu)."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine

HOLES = """
import json, psutil, torch
from verl.utils.device import get_torch_device

process = psutil.Process()
start = process.memory_info().rss
# 4096 blocks of 64 KiB, each before a small one that stays. glibc maps larger blocks one by one at first.
blocks = [(torch.ones(2**14), torch.ones(2**8)) for _ in range(4096)]
full = process.memory_info().rss
staying = [small for _, small in blocks]
del blocks
freed = process.memory_info().rss
get_torch_device().empty_cache()
returned = process.memory_info().rss
print(json.dumps([(rss - start) / 2**20 for rss in (full, freed, returned)]))
"""


def test_empty_cache_returns_holes_between_tensors():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", HOLES],
        env={**environment, "VERL_PLATFORM": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    full, freed, returned = json.loads(done.stdout.splitlines()[-1])
    assert full > 250
    assert freed > 250, "glibc has returned them by itself: is empty_cache still needed?"
    assert returned < 50


def test_another_c_library_has_no_effect(monkeypatch):
    from verl_longrl.platform import cpu

    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda name: object())
    cpu._malloc_trim.cache_clear()
    try:
        assert cpu._malloc_trim() is None
        cpu.return_freed_memory()
    finally:
        cpu._malloc_trim.cache_clear()
