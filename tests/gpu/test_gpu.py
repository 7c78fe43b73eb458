"""Tests that need one NVIDIA GPU: python tests/gpu/test_gpu.py [pytest arguments] runs them and prints a table.

The attention of shared prompts comes first: each backend compared with float64 or float32, its memory, time and
determinism. These need only `pip install torch pytest` and `PYTHONPATH=verl`; `-k "not training"` runs them alone. Two
training steps with the demo's model follow, which need the whole environment.
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
from verl_longrl.engine.attention import attend, choose_backend
from verl_longrl.engine.attention_check import FLOAT_TOLERANCE, GROUPS, HALF_TOLERANCE, relative_errors, try_attention
from verl_longrl.engine.kernels import VARLEN_KERNEL, Activations, Pattern
from verl_longrl.engine.layout import Group, Layout, Segments

if __name__ != "__main__" and not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU; there, run python tests/gpu/test_gpu.py", allow_module_level=True)

pytestmark = pytest.mark.e2e  # Alone on the GPU.
HEADS = {"7B": (28, 4, 128), "7B, on 4 ranks": (7, 1, 128), "0.5B": (14, 2, 64), "as many": (4, 4, 96)}
ROWS = {
    "several groups": GROUPS,
    "one group": (Group(700, (90, 1, 128, 33, 64, 20, 7, 101)),),
    "single tokens": (Group(50, (1,)), Group(31, (1,))),  # The kernel then treats heads as queries.
}
LONG = Layout([Group(16384, (1024,) * 8)], "cuda")


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [("lse_merge", "bfloat16"), ("lse_merge", "float16"), ("lower_right", "bfloat16"), ("lower_right", "float32")],
)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("row", ROWS)
def test_equal_to_dense_attention(backend, dtype, heads, row, record_property):
    torch_dtype = getattr(torch, dtype)
    forward, backward = relative_errors(Layout(ROWS[row], "cuda"), backend, torch_dtype, *HEADS[heads])
    record_property("row", [f"{backend}, {dtype}: {heads}, {row}", f"{forward:.1e}", f"{backward:.1e}"])
    assert (
        max(forward, backward)
        < (HALF_TOLERANCE if dtype != "float32" else FLOAT_TOLERANCE) * torch.finfo(torch_dtype).eps
    )


def test_the_attention_check_chooses_the_fast_backend():
    result = try_attention("cuda")
    assert result.problem is None
    assert result.backend.startswith("lse_merge: ")
    assert choose_backend(torch.device("cuda"), torch.float32, 128).backend == "lower_right"


def random_inputs(layout: Layout, heads: int = 28, kv_heads: int = 4, size: int = 128) -> list[torch.Tensor]:
    """q, k, v and the gradient of the output, of a 7B model's layer."""
    generator = torch.Generator("cuda").manual_seed(0)
    return [
        torch.randn(layout.tokens, n_heads, size, generator=generator, device="cuda", dtype=torch.bfloat16)
        for n_heads in (heads, kv_heads, kv_heads, heads)
    ]


def attend_with_copies(q, k, v, layout, scale, grad):
    """Output and gradients with a copy of the prompt's keys for each response, as flash-attn would need it."""
    attended = layout.attended_slices
    lengths = [sum(tokens.stop - tokens.start for tokens in slices) for slices in attended]
    pattern = Pattern(Segments(layout.self_segments.queries, lengths, q.device), True, scale)
    k_copies, v_copies = (torch.cat([x[tokens] for slices in attended for tokens in slices]) for x in (k, v))
    out, lse = VARLEN_KERNEL.forward(q, k_copies, v_copies, pattern)
    dq, *copies_grads = VARLEN_KERNEL.backward(grad, Activations(q, k_copies, v_copies, out, lse), pattern)
    totals = []
    for copies_grad in copies_grads:
        total, start = torch.zeros_like(k, dtype=torch.float32), 0
        for tokens in (tokens for slices in attended for tokens in slices):
            length = tokens.stop - tokens.start
            total[tokens] += copies_grad[start : start + length]
            start += length
        totals.append(total)
    return [out, dq, *totals]


def attend_with(backend: str) -> Callable:
    """A function that computes output and gradients with a backend."""

    def compute(q, k, v, layout, scale, grad):
        inputs = [x.detach().requires_grad_() for x in (q, k, v)]
        out = attend(*inputs, layout, scale, backend)
        return [out.detach(), *torch.autograd.grad(out, inputs, grad)]

    return compute


def measure(compute: Callable, *args) -> tuple[list[torch.Tensor], float, float]:
    """The results, ms (the fastest of three calls after a first one), and the peak MiB above what was allocated."""
    compute(*args)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, times = torch.cuda.memory_allocated(), []
    for _ in range(3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        results = compute(*args)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return results, min(times), (torch.cuda.max_memory_allocated() - before) / 2**20


def test_long_rows_need_no_copies_of_the_prompt(record_property):
    """16K + 8 x 1K tokens, a 7B model's layer: errors relative to float32, time and memory of each backend."""
    q, k, v, grad = random_inputs(LONG)
    scale, peaks = 128**-0.5, {}
    exact = attend_with("lower_right")(*(x.float() for x in (q, k, v)), LONG, scale, grad.float())
    variants = {name: attend_with(name) for name in ("lse_merge", "lower_right")} | {"copies": attend_with_copies}
    for name, compute in variants.items():
        results, ms, peaks[name] = measure(compute, q, k, v, LONG, scale, grad)
        pairs = zip(results, exact, strict=True)
        forward, *backward = (((a.float() - b).abs().max() / b.abs().max()).item() for a, b in pairs)
        label = f"{name}, bfloat16: 7B, 16K + 8 x 1K"
        record_property("row", [label, f"{forward:.1e}", f"{max(backward):.1e}", f"{ms:.1f}", f"{peaks[name]:,.0f}"])
        assert max(forward, *backward) < 2 * HALF_TOLERANCE * torch.finfo(torch.bfloat16).eps, name
        # The next variant's peak must not include these tensors.
        del results
    assert peaks["lse_merge"] < peaks["copies"]


@pytest.fixture
def full_determinism_of_verl():
    torch.use_deterministic_algorithms(True, warn_only=True)  # verl's enable_full_determinism
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("full_determinism_of_verl")
@pytest.mark.parametrize("backend", ["lse_merge", "lower_right"])
def test_full_determinism(backend, record_property):
    q, k, v, grad = random_inputs(LONG)
    first, *others = (attend_with(backend)(q, k, v, LONG, 128**-0.5, grad) for _ in range(4))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    _, ms, peak = measure(attend_with(backend), q, k, v, LONG, 128**-0.5, grad)
    label = f"{backend}, deterministic, bfloat16: 7B, 16K + 8 x 1K"
    record_property("row", [label, "", "", f"{ms:.1f}", f"{peak:,.0f}"])


needs_whole_environment = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ray", "verl", "vllm")),
    reason="needs the whole environment: bash scripts/setup.sh gpu",
)


@needs_whole_environment
def test_two_steps_of_training(tmp_path, record_property):
    """`python -m recipe.longrl.main hardware=1gpu` on the demo's model and data, with the shared prompt."""
    from recipe.longrl.demo.assets import build_assets
    from recipe.longrl.demo.grounded.build import SHORT, GroundedBuild, GroundedStage
    from recipe.longrl.demo.run import overrides

    config = GroundedBuild(train_documents=16, val_documents=4, warm_start=(GroundedStage(20, 4, SHORT, 0.5),))
    assets, output = build_assets(config, tmp_path / "assets"), tmp_path / "run"
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
        assert row["training/rollout_probs_diff_mean"] < 0.02  # vLLM and the trainer compute in bfloat16.
        record_property("row", [f"training, step {row['step']}", "", "", f"{1000 * row['timing_s/step']:,.0f}", ""])


class TablePlugin:
    """Prints the rows that tests recorded as a Markdown table, below the name of the GPU."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.rows += [row for name, row in report.user_properties if name == "row"]

    def pytest_terminal_summary(self) -> None:
        if not self.rows:
            return
        device = torch.cuda.get_device_name()
        print(
            f"\n{device}, torch {torch.__version__}, CUDA {torch.version.cuda}; errors relative to the largest value\n"
        )
        print("| variant | forward error | backward error | ms, both passes | peak MiB |\n|---|---|---|---|---|")
        for row in self.rows:
            print("| " + " | ".join([*row, *[""] * (5 - len(row))]) + " |")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", *sys.argv[1:]], plugins=[TablePlugin()]))
