"""The self-test of attention passes on devices where attention works, and names the problem on others."""

import subprocess
import sys

import pytest
import torch
from verl_longrl.engine import attention, attention_check
from verl_longrl.engine.attention_check import try_attention
from verl_longrl.engine.layout import Group, Layout

CUDA = torch.device("cuda:0")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("heads", [(4, 2, 128), (14, 2, 64), (3, 3, 40)])
def test_works_on_cpus(dtype, heads):
    result = try_attention("cpu", dtype, *heads)
    assert result.problem is None
    assert result.backend.startswith("lse_merge: torch's CPU kernel")
    assert 0 < result.forward_error < 1e-2
    assert 0 < result.backward_error < 3e-2


def test_a_kernel_that_is_wrong_is_found(monkeypatch):
    def blind(q, k, v, layout, scale, backend):
        """Responses attend to the last token of their prompt only."""
        short = Layout([Group(1, group.responses) for group in layout.groups])
        rows = torch.cat([torch.arange(a.stop - 1, b.stop) for a, b in layout.group_slices])
        out = attention.attend(q, k, v, layout, scale)
        return out.index_copy(0, rows, attention.attend(q[rows], k[rows], v[rows], short, scale))

    monkeypatch.setattr(attention_check, "attend", blind)
    result = try_attention("cpu")
    assert result.problem is not None
    assert "lse_merge on cpu is wrong: relative errors of" in result.problem


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: no kernel image is available"), TypeError("signature")])
def test_a_kernel_that_fails_is_found(monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(attention_check, "attend", fails)
    assert try_attention("cpu").problem == f"lse_merge on cpu fails: {type(error).__name__}: {error}"


def test_an_unsupported_device_is_a_problem():
    result = try_attention("mps")
    assert result.backend == "none"
    assert (
        result.problem == f"shared-prompt attention runs on CPUs and NVIDIA GPUs, not on mps; {attention.ALTERNATIVE}"
    )


@pytest.fixture(autouse=True)
def clear_cache():
    yield
    attention.choose_backend.cache_clear()


class FakeGpu:
    """Replaces torch's answers about a GPU and about its own build."""

    def __init__(self, monkeypatch, capability=(9, 0), flash=True, kernels=True):
        attention.choose_backend.cache_clear()
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
        monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: flash)
        monkeypatch.setattr(attention, "_has_kernel_without_mask", lambda *_: kernels)


@pytest.mark.parametrize(
    ("gpu", "query", "reason"),
    [
        ({}, (torch.float32, 128), "supports float16 and bfloat16, not float32"),
        ({}, (torch.bfloat16, 100), "multiples of 8 up to 256, not 100"),
        ({}, (torch.bfloat16, 512), "multiples of 8 up to 256, not 512"),
        ({"capability": (7, 5)}, (torch.float16, 128), "compute capability 8.0, a GPU has 7.5"),
        ({"flash": False}, (torch.bfloat16, 128), "is built without FlashAttention"),
    ],
)
def test_lower_right_or_nothing_where_merging_does_not_work(monkeypatch, gpu, query, reason):
    FakeGpu(monkeypatch, **gpu)
    backend, actual_reason = attention.choose_backend(CUDA, *query)
    assert backend == "lower_right"
    assert reason in actual_reason
    FakeGpu(monkeypatch, **gpu, kernels=False)
    with pytest.raises(ValueError, match=r"no attention kernel without a mask.*longrl.engine=response_logits"):
        attention.choose_backend(CUDA, *query)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_size", [64, 80, 128, 256])
def test_half_precision_merges_without_flash_attn(monkeypatch, dtype, head_size):
    FakeGpu(monkeypatch)
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # An import would fail.
    assert attention.choose_backend(CUDA, dtype, head_size).backend == "lse_merge"


@pytest.mark.parametrize("device", ["xpu", "mps"])
def test_other_devices_are_rejected(device):
    with pytest.raises(ValueError, match="on CPUs and NVIDIA GPUs, not on"):
        attention.choose_backend(torch.device(device), torch.bfloat16, 128)


def test_needs_torch_alone():
    modules = ("ray", "verl", "transformers", "tensordict", "flash_attn")
    code = f"import sys, verl_longrl.engine.attention_check; print([n for n in {modules} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
