"""The GPU backends, traced without a GPU: shapes, types and the operators called, forward and backward.

Uses meta tensors everywhere, and fake CUDA tensors where torch is built for CUDA, as in the GPU environment (a CPU
build aborts on them). Values are tested in test_attention.py, against the kernel's documented semantics.
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


class OperatorLog(TorchDispatchMode):
    """Records the names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


class FakeContext(SimpleNamespace):
    """autograd's context, without its engine, which needs a real device."""

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


def empty_inputs(device, dtype):
    return [torch.empty(TOKENS, heads, D, dtype=dtype, device=device) for heads in (H, K, K)]


@pytest.fixture(autouse=True)
def untraced_bias(monkeypatch):
    """Make a causal bias outside tracing: it is a tensor subclass, which cannot be made while tensors are traced."""

    def outside(*lengths):
        with _disable_current_modes():
            return bias.causal_lower_right(*lengths)

    monkeypatch.setattr(attention, "causal_lower_right", outside)


@pytest.mark.parametrize(("backend", "dtype"), [("lse_merge", torch.bfloat16), ("lower_right", torch.float32)])
def test_autograd_on_meta_tensors(backend, dtype):
    inputs = [x.requires_grad_() for x in empty_inputs("meta", dtype)]
    with OperatorLog() as log:
        out = attention.attend(*inputs, Layout(GROUPS, "meta"), 0.1, backend)
        out.backward(torch.empty_like(out))
    assert (out.shape, out.dtype) == (inputs[0].shape, dtype)
    assert [(x.grad.shape, x.grad.dtype) for x in inputs] == [(x.shape, x.dtype) for x in inputs]
    if backend == "lse_merge":
        varlen_calls = [name for name in log.names if name.startswith("torch_attn::")]
        assert varlen_calls == ["torch_attn::_varlen_attn"] * 2 + ["torch_attn::_varlen_attn_backward"] * 2
    assert not any("index" in name for name in log.names), "the backward of an index sorts it"


if torch.backends.cuda.is_built():

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_merging_on_fake_cuda_tensors(dtype, monkeypatch):
        """Through the bodies of varlen_attn's operators to ATen's: the arguments fit their signatures."""
        varlen = kernels._varlen_operators()
        import torch.nn.attention.varlen as module

        bodies = {name: getattr(module, name)._init_fn for name in ("_varlen_attn", "_varlen_attn_backward")}
        monkeypatch.setattr(module, "_should_use_cudnn", lambda _: False)
        for operators in (varlen, SimpleNamespace(**bodies)):
            monkeypatch.setattr(kernels, "_varlen_operators", lambda operators=operators: operators)
            with FakeTensorMode(), OperatorLog() as log:
                q, k, v = empty_inputs("cuda", dtype)
                context = FakeContext()
                out = attention._LseMerge.forward(context, q, k, v, Layout(GROUPS, "cuda"), 0.1)
                lse = context.saved_tensors[-1]
                grads = attention._LseMerge.backward(context, torch.empty_like(out))
            assert (out.shape, out.dtype, out.device.type) == (q.shape, dtype, "cuda")
            assert (lse.shape, lse.dtype, lse.is_contiguous()) == ((H, TOKENS), torch.float32, True)
            assert [(x.shape, x.dtype) for x in grads[:3]] == [(x.shape, x.dtype) for x in (q, k, v)]
        kernel = [name for name in log.names if "flash" in name]
        assert kernel == ["aten::_flash_attention_forward"] * 2 + ["aten::_flash_attention_backward"] * 2

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    def test_lower_right_on_fake_cuda_tensors(dtype, monkeypatch):
        """No mask is built for a response, whichever of the two kernels exists; without a kernel there is an error."""
        half = dtype == torch.bfloat16

        monkeypatch.setattr(bias, "can_use_flash_attention", lambda _: half)
        monkeypatch.setattr(bias, "can_use_efficient_attention", lambda _: not half)
        with FakeTensorMode(), OperatorLog() as log:
            q, k, v = empty_inputs("cuda", dtype)
            out = attention._lower_right(q[-6:], k, v, 0.1)
            with pytest.raises(
                RuntimeError, match="No available kernel"
            ):  # A prompt's attention, for which torch asks the device.
                attention._lower_right(q, k, v, 0.1)
        assert (out.shape, out.dtype, out.device.type) == ((6, H, D), dtype, "cuda")
        expected = "_scaled_dot_product_flash_attention" if half else "_efficient_attention_forward"
        assert [name for name in log.names if "attention" in name] == [f"aten::{expected}"]
        assert not any(name in ("aten::tril", "aten::bmm", "aten::_softmax") for name in log.names)
