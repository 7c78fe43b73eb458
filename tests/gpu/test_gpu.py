"""What only a GPU can show: python tests/gpu/test_gpu.py [pytest arguments], on one NVIDIA GPU, prints a table.

First the attention of shared prompts, for which `pip install torch pytest` and `PYTHONPATH=verl` are enough: every way
against float64 or float32, its memory, its time, its determinism (`-k "not training"` runs these alone). Then two
training steps with the demo's model, which need the whole environment.
"""

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from verl_longrl.engine.attention import attend, best_way
from verl_longrl.engine.attention_check import GROUPS, HALF, WIDER, errors, try_attention
from verl_longrl.engine.kernels import VARLEN
from verl_longrl.engine.layout import Group, Layout, Segments

if __name__ != "__main__" and not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU; there, run python tests/gpu/test_gpu.py", allow_module_level=True)

pytestmark = pytest.mark.e2e  # with the GPU to itself
HEADS = {"7B": (28, 4, 128), "7B, on 4 ranks": (7, 1, 128), "0.5B": (14, 2, 64), "as many": (4, 4, 96)}
ROWS = {
    "several groups": GROUPS,
    "one group": (Group(700, (90, 1, 128, 33, 64, 20, 7, 101)),),
    "single tokens": (Group(50, (1,)), Group(31, (1,))),  # the kernel then computes heads as if they were queries
}
LONG = Layout([Group(16384, (1024,) * 8)], "cuda")


@pytest.mark.parametrize(
    ("way", "dtype"),
    [("merge", "bfloat16"), ("merge", "float16"), ("lower_right", "bfloat16"), ("lower_right", "float32")],
)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("row", ROWS)
def test_equal_to_dense_attention(way, dtype, heads, row, record_property):
    of = getattr(torch, dtype)
    forward, backward = errors(Layout(ROWS[row], "cuda"), way, of, *HEADS[heads])
    record_property("row", [f"{way}, {dtype}: {heads}, {row}", f"{forward:.1e}", f"{backward:.1e}"])
    assert max(forward, backward) < (HALF if dtype != "float32" else WIDER) * torch.finfo(of).eps


def test_the_trial_takes_the_fast_way():
    found = try_attention("cuda")
    assert found.problem is None
    assert found.way.startswith("merge: ")
    assert best_way(torch.device("cuda"), torch.float32, 128).way == "lower_right"


def drawn(layout: Layout, heads: int = 28, kv_heads: int = 4, size: int = 128) -> list[torch.Tensor]:
    """q, k, v and the gradient of the output, of a 7B model's layer."""
    generator = torch.Generator("cuda").manual_seed(0)
    return [
        torch.randn(layout.tokens, of, size, generator=generator, device="cuda", dtype=torch.bfloat16)
        for of in (heads, kv_heads, kv_heads, heads)
    ]


def with_copies(q, k, v, layout, scale, grad):
    """Output and gradients with a copy of the prompt's keys for each response, as with flash-attn: the third way."""
    places = layout.looked_at
    keys = Segments(layout.own.queries, [sum(p.stop - p.start for p in each) for each in places], q.device)
    copies = [torch.cat([x[place] for each in places for place in each]) for x in (k, v)]
    out, lse = VARLEN.forward(q, *copies, keys, True, scale)
    dq, *of_copies = VARLEN.backward(grad, q, *copies, out, lse, keys, True, scale)
    found = []
    for of in of_copies:
        total, start = torch.zeros_like(k, dtype=torch.float32), 0
        for place in (place for each in places for place in each):
            length = place.stop - place.start
            total[place] += of[start : start + length]
            start += length
        found.append(total)
    return [out, dq, *found]


def by(way: str) -> Callable:
    def compute(q, k, v, layout, scale, grad):
        inputs = [x.detach().requires_grad_() for x in (q, k, v)]
        out = attend(*inputs, layout, scale, way)
        return [out.detach(), *torch.autograd.grad(out, inputs, grad)]

    return compute


def measured(compute: Callable, *given) -> tuple[list[torch.Tensor], float, float]:
    """What it gives; ms, the fastest of three after one; peak MiB above what was there."""
    compute(*given)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, times = torch.cuda.memory_allocated(), []
    for _ in range(3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        found = compute(*given)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return found, min(times), (torch.cuda.max_memory_allocated() - before) / 2**20


def test_long_rows_need_no_copies_of_the_prompt(record_property):
    """16K + 8 x 1K tokens, a 7B model's layer: errors to float32, time and memory of each way."""
    q, k, v, grad = drawn(LONG)
    scale, peaks = 128**-0.5, {}
    exact = by("lower_right")(*(x.float() for x in (q, k, v)), LONG, scale, grad.float())
    for name, compute in {"merge": by("merge"), "copies": with_copies, "lower_right": by("lower_right")}.items():
        found, ms, peaks[name] = measured(compute, q, k, v, LONG, scale, grad)
        differences = [((a.float() - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact, strict=True)]
        forward, backward = differences[0], max(differences[1:])
        what = f"{name}, bfloat16: 7B, 16K + 8 x 1K"
        record_property("row", [what, f"{forward:.1e}", f"{backward:.1e}", f"{ms:.1f}", f"{peaks[name]:,.0f}"])
        assert max(differences) < 2 * HALF * torch.finfo(torch.bfloat16).eps, name
        del found
    assert peaks["merge"] < peaks["copies"]


@pytest.fixture
def as_upstream_is_deterministic():
    torch.use_deterministic_algorithms(True, warn_only=True)  # verl's enable_full_determinism
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("as_upstream_is_deterministic")
@pytest.mark.parametrize("way", ["merge", "lower_right"])
def test_full_determinism(way, record_property):
    q, k, v, grad = drawn(LONG)
    first, *others = (by(way)(q, k, v, LONG, 128**-0.5, grad) for _ in range(4))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    _, ms, peak = measured(by(way), q, k, v, LONG, 128**-0.5, grad)
    record_property("row", [f"{way}, deterministic, bfloat16: 7B, 16K + 8 x 1K", "", "", f"{ms:.1f}", f"{peak:,.0f}"])


needs_all = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ray", "verl", "vllm")),
    reason="needs the whole environment: bash scripts/setup.sh gpu",
)


@needs_all
def test_two_steps_of_training(tmp_path, record_property):
    """`python -m recipe.longrl.main hardware=1gpu` on the demo's model and data, with the shared prompt."""
    from recipe.longrl.demo.build import build
    from recipe.longrl.demo.grounded.build import GroundedBuild
    from recipe.longrl.demo.grounded.lessons import SHORT, Stage
    from recipe.longrl.demo.run import overrides

    config = GroundedBuild(train_documents=16, val_documents=4, warm_start=(Stage(20, 4, SHORT, 0.5),))
    assets, output = build(config, tmp_path / "assets"), tmp_path / "run"
    command = [sys.executable, "-m", "recipe.longrl.main", *overrides(assets), "hardware=1gpu"]
    command += [f"longrl.output_dir={output}", "longrl.engine=shared_prompt", "trainer.total_training_steps=2"]
    command += ["data.train_batch_size=4", "actor_rollout_ref.actor.ppo_mini_batch_size=4"]
    command += ["actor_rollout_ref.rollout.n=4", "data.max_response_length=32"]
    command += ["actor_rollout_ref.rollout.enforce_eager=true", "trainer.val_before_train=false"]
    command += ["trainer.test_freq=1000", "trainer.save_freq=1000"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["split"] == "train"]
    assert [row["step"] for row in train] == [1, 2]
    for row in train:
        assert math.isfinite(row["actor/grad_norm"])
        assert row["actor/prompt_sharing"] > 1.5
        assert row["training/rollout_probs_diff_mean"] < 0.02  # vLLM and trainer in bfloat16
        record_property("row", [f"training, step {row['step']}", "", "", f"{1000 * row['timing_s/step']:,.0f}", ""])


class Table:
    """The rows that tests recorded, as Markdown, with what they ran on."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.rows += [row for name, row in report.user_properties if name == "row"]

    def pytest_terminal_summary(self) -> None:
        if not self.rows:
            return
        device = torch.cuda.get_device_name()
        print(f"\n{device}, torch {torch.__version__}, CUDA {torch.version.cuda}; errors over the largest value\n")
        print("| what | forward error | backward error | ms, both passes | peak MiB |\n|---|---|---|---|---|")
        for row in self.rows:
            print("| " + " | ".join([*row, *[""] * (5 - len(row))]) + " |")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", *sys.argv[1:]], plugins=[Table()]))
