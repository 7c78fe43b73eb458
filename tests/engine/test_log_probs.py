"""Log-probabilities without flash-attn: in float32 whatever the logits are, a gradient that takes their place."""

from types import SimpleNamespace

import pytest
import torch
from verl.utils import torch_functional
from verl_longrl.engine import log_probs as module
from verl_longrl.engine.log_probs import log_probs

M, V = 13, 50


@pytest.fixture(autouse=True)
def without_kernel(monkeypatch) -> None:
    """As where flash-attn is not installed."""
    monkeypatch.setenv("VERL_DISABLE_FLASH_ATTN_CE", "1")


def wanted(logits: torch.Tensor, labels: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and the logits' gradient in float64."""
    exact = logits.detach().double().requires_grad_()
    found = torch.log_softmax(exact, -1).gather(-1, labels[:, None])[:, 0]
    return found, torch.autograd.grad(found, exact, grad.double())[0]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)],
)
@pytest.mark.parametrize("chunk", [1, 3 * V, 2**24])
def test_values_and_gradient(chunk: int, dtype: torch.dtype, tolerance: float, in_place: bool, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ENTRIES", chunk)
    torch.manual_seed(0)
    hidden = (3 * torch.randn(M, V, dtype=torch.float64)).to(dtype).requires_grad_()
    labels, grad = torch.randint(V, (M,)), torch.randn(M, dtype=torch.promote_types(dtype, torch.float32))
    logits = hidden * 1.0  # as a layer makes them: not the leaf
    exact, exact_grad = wanted(logits, labels, grad)
    found = log_probs(logits, labels, in_place)
    assert found.dtype == grad.dtype
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5)
    before = logits.detach().clone()
    found.backward(grad)
    torch.testing.assert_close(hidden.grad.double(), exact_grad, rtol=tolerance, atol=tolerance)
    assert torch.equal(before, logits) != in_place


def test_upstreams_fallback_rounds_what_this_does_not():
    torch.manual_seed(0)
    logits, labels = (3 * torch.randn(M, V)).bfloat16(), torch.randint(V, (M,))
    exact, _ = wanted(logits, labels, torch.ones(M))
    off = {
        name: (found.double() - exact).abs().max().item()
        for name, found in (
            ("upstream", torch_functional.logprobs_from_logits_v2(logits, labels)),
            ("ours", log_probs(logits, labels, True)),
        )
    }
    assert off["ours"] < 1e-5 < 1e-3 < off["upstream"]


def test_no_rows():
    logits = torch.zeros(0, V, requires_grad=True)
    found = log_probs(logits, torch.zeros(0, dtype=torch.long), False)
    found.sum().backward()
    assert found.shape == (0,)
    assert logits.grad.shape == (0, V)


@pytest.mark.parametrize(("flash", "disabled", "kernel"), [(True, "0", True), (True, "1", False), (False, "0", False)])
def test_flash_attns_kernel_is_used_where_upstream_would(flash: bool, disabled: str, kernel: bool, monkeypatch):
    calls = []
    monkeypatch.setattr(
        module,
        "torch_functional",
        SimpleNamespace(
            FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE=flash,
            NPU_CROSS_ENTROPY_LOSS_AVAILABLE=False,
            logprobs_from_logits=lambda logits, labels, inplace_backward: calls.append(inplace_backward) or labels,
        ),
    )
    monkeypatch.setenv("VERL_DISABLE_FLASH_ATTN_CE", disabled)
    log_probs(torch.zeros(M, V), torch.zeros(M, dtype=torch.long), True)
    assert calls == [True] * kernel


def test_upstream_still_names_its_kernels_so():
    assert isinstance(torch_functional.FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE, bool)
    assert isinstance(torch_functional.NPU_CROSS_ENTROPY_LOSS_AVAILABLE, bool)
