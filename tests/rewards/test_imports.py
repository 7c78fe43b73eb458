"""The rewards are usable where nothing heavy is installed, and importing them is cheap."""

import subprocess
import sys


def test_scoring_imports_nothing_heavy():
    program = """
import sys
from verl_longrl.rewards import score
response = "<useful_chunks><CHUNK_1></useful_chunks><answer>Paris</answer>"
assert score("longrlvr", response, "Paris", {"ref_chunks": [1]}).value == 2.0
assert score("loongrl_qa", "\\\\boxed{Paris}", ["Paris"]).value == 1.0
assert score("golongrl_ranking", "[Answer] Paris", ["Paris"]).value == 1.0
assert score("golongrl_summary", "Paris", "Paris").value == 1.0
heavy = {"torch", "ray", "verl", "pandas", "numpy", "aiohttp", "asyncio", "sympy", "math_verify", "jieba"}
heavy &= set(sys.modules)
assert not heavy, heavy
import verl_longrl.rewards.isolation.scorer_pool, verl_longrl.rewards.judge.client
heavy = {"torch", "ray", "verl", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
