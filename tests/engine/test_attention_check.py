"""The trial of a run's attention: it passes where that works, and says what is wrong where it does not."""

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
    found = try_attention("cpu", dtype, *heads)
    assert found.problem is None
    assert found.way.startswith("merge: torch's CPU kernel")
    assert 0 < found.forward_error < 1e-2
    assert 0 < found.backward_error < 3e-2


def test_a_kernel_that_is_wrong_is_found(monkeypatch):
    def blind(q, k, v, layout, scale, way):
        """Responses that see the last token of their prompt only."""
        short = Layout([Group(1, group.responses) for group in layout.groups])
        rows = torch.cat([torch.arange(a.stop - 1, b.stop) for a, b in layout.shared_places])
        out = attention.attend(q, k, v, layout, scale)
        return out.index_copy(0, rows, attention.attend(q[rows], k[rows], v[rows], short, scale))

    monkeypatch.setattr(attention_check, "attend", blind)
    found = try_attention("cpu")
    assert found.problem is not None
    assert "merge on cpu is wrong: relative errors of" in found.problem


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: no kernel image is available"), TypeError("signature")])
def test_a_kernel_that_fails_is_found(monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(attention_check, "attend", fails)
    assert try_attention("cpu").problem == f"merge on cpu fails: {type(error).__name__}: {error}"


def test_a_device_without_a_way_is_a_problem():
    found = try_attention("mps")
    assert found.way == "none"
    assert (
        found.problem == f"attention of a shared prompt is for CPUs and NVIDIA GPUs, not for mps; {attention.INSTEAD}"
    )


@pytest.fixture(autouse=True)
def fresh():
    yield
    attention.best_way.cache_clear()


class Gpu:
    """What torch says of a GPU, and of its own build."""

    def __init__(self, monkeypatch, capability=(9, 0), flash=True, kernels=True):
        attention.best_way.cache_clear()
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
        monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: flash)
        monkeypatch.setattr(attention, "_without_a_mask", lambda *_: kernels)


@pytest.mark.parametrize(
    ("gpu", "asked", "reason"),
    [
        ({}, (torch.float32, 128), "in float16 or bfloat16, not in float32"),
        ({}, (torch.bfloat16, 100), "multiple of 8 up to 256, not of 100"),
        ({}, (torch.bfloat16, 512), "multiple of 8 up to 256, not of 512"),
        ({"capability": (7, 5)}, (torch.float16, 128), "compute capability 8.0, a GPU has 7.5"),
        ({"flash": False}, (torch.bfloat16, 128), "is built without FlashAttention"),
    ],
)
def test_where_merging_does_not_work_no_mask_is_used(monkeypatch, gpu, asked, reason):
    Gpu(monkeypatch, **gpu)
    way, why = attention.best_way(CUDA, *asked)
    assert way == "lower_right"
    assert reason in why
    Gpu(monkeypatch, **gpu, kernels=False)
    with pytest.raises(ValueError, match=r"no attention kernel without a mask.*longrl.engine=response_logits"):
        attention.best_way(CUDA, *asked)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_size", [64, 80, 128, 256])
def test_half_precision_merges_without_flash_attn(monkeypatch, dtype, head_size):
    Gpu(monkeypatch)
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # its import would fail
    assert attention.best_way(CUDA, dtype, head_size).way == "merge"


@pytest.mark.parametrize("device", ["xpu", "mps"])
def test_other_devices_are_refused(device):
    with pytest.raises(ValueError, match="for CPUs and NVIDIA GPUs, not for"):
        attention.best_way(torch.device(device), torch.bfloat16, 128)


def test_needs_torch_alone():
    code = "import sys, verl_longrl.engine.attention_check; print([n for n in ('ray', 'verl', 'transformers', "
    code += "'tensordict', 'flash_attn') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
