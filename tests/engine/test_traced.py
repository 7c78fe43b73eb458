"""The ways of GPUs, traced without one: shapes, types and the operators that are called, forward and backward.

With meta tensors everywhere; with fake CUDA tensors where torch is built for CUDA, as in the GPU environment (a build
for CPUs aborts on them). Values are tested in test_attention.py, against the kernel's documented semantics.
"""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import bias
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from verl_longrl.engine import attention, kernels
from verl_longrl.engine.layout import Group, Layout

GROUPS = [Group(7, (2,)), Group(3, (5, 1, 1)), Group(20, (6, 6))]
TOKENS, H, K, D = 51, 8, 2, 128


class Called(TorchDispatchMode):
    """The operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


class Context(SimpleNamespace):
    """autograd's, without its engine, which asks for a real device."""

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


def drawn(device, dtype):
    return [torch.empty(TOKENS, heads, D, dtype=dtype, device=device) for heads in (H, K, K)]


@pytest.fixture(autouse=True)
def a_bias(monkeypatch):
    """A causal bias is a tensor of its own kind, which cannot be made while tensors are traced."""

    def outside(*lengths):
        with _disable_current_modes():
            return bias.causal_lower_right(*lengths)

    monkeypatch.setattr(attention, "causal_lower_right", outside)


@pytest.mark.parametrize(("way", "dtype"), [("merge", torch.bfloat16), ("lower_right", torch.float32)])
def test_autograd_on_meta_tensors(way, dtype):
    inputs = [x.requires_grad_() for x in drawn("meta", dtype)]
    with Called() as called:
        out = attention.attend(*inputs, Layout(GROUPS, "meta"), 0.1, way)
        out.backward(torch.empty_like(out))
    assert (out.shape, out.dtype) == (inputs[0].shape, dtype)
    assert [(x.grad.shape, x.grad.dtype) for x in inputs] == [(x.shape, x.dtype) for x in inputs]
    if way == "merge":
        own = [name for name in called.names if name.startswith("torch_attn::")]
        assert own == ["torch_attn::_varlen_attn"] * 2 + ["torch_attn::_varlen_attn_backward"] * 2
    assert not any("index" in name for name in called.names), "the backward of an index sorts it"


if torch.backends.cuda.is_built():

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_merging_on_fake_cuda_tensors(dtype, monkeypatch):
        """Through the bodies of varlen_attn's operators, to ATen's: what they are given is what those take."""
        varlen = kernels._varlen()
        import torch.nn.attention.varlen as module

        bodies = {name: getattr(module, name)._init_fn for name in ("_varlen_attn", "_varlen_attn_backward")}
        monkeypatch.setattr(module, "_should_use_cudnn", lambda _: False)
        for operators in (varlen, SimpleNamespace(**bodies)):
            monkeypatch.setattr(kernels, "_varlen", lambda operators=operators: operators)
            with FakeTensorMode(), Called() as called:
                q, k, v = drawn("cuda", dtype)
                context = Context()
                out = attention._Merged.forward(context, q, k, v, Layout(GROUPS, "cuda"), 0.1)
                lse = context.saved_tensors[-1]
                grads = attention._Merged.backward(context, torch.empty_like(out))
            assert (out.shape, out.dtype, out.device.type) == (q.shape, dtype, "cuda")
            assert (lse.shape, lse.dtype, lse.is_contiguous()) == ((H, TOKENS), torch.float32, True)
            assert [(x.shape, x.dtype) for x in grads[:3]] == [(x.shape, x.dtype) for x in (q, k, v)]
        kernel = [name for name in called.names if "flash" in name]
        assert kernel == ["aten::_flash_attention_forward"] * 2 + ["aten::_flash_attention_backward"] * 2

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    def test_lower_right_on_fake_cuda_tensors(dtype, monkeypatch):
        """A response's: no mask is made, whichever of the two kernels there is; and without one nothing is computed."""
        half = dtype == torch.bfloat16

        monkeypatch.setattr(bias, "can_use_flash_attention", lambda _: half)
        monkeypatch.setattr(bias, "can_use_efficient_attention", lambda _: not half)
        with FakeTensorMode(), Called() as called:
            q, k, v = drawn("cuda", dtype)
            out = attention._lower_right(q[-6:], k, v, 0.1)
            with pytest.raises(RuntimeError, match="No available kernel"):  # a prompt's, chosen by asking the device
                attention._lower_right(q, k, v, 0.1)
        assert (out.shape, out.dtype, out.device.type) == ((6, H, D), dtype, "cuda")
        expected = "_scaled_dot_product_flash_attention" if half else "_efficient_attention_forward"
        assert [name for name in called.names if "attention" in name] == [f"aten::{expected}"]
        assert not any(name in ("aten::tril", "aten::bmm", "aten::_softmax") for name in called.names)
