"""Log-probabilities without flash-attn: in float32 for any dtype of logits, with a gradient written in their place."""

from types import SimpleNamespace

import pytest
import torch
from verl.utils import torch_functional
from verl_longrl.engine import log_probs as module
from verl_longrl.engine.log_probs import compute_log_probs

M, V = 13, 50


@pytest.fixture(autouse=True)
def without_kernel(monkeypatch) -> None:
    """Behave as if flash-attn were not installed."""
    monkeypatch.setenv("VERL_DISABLE_FLASH_ATTN_CE", "1")


def exact_log_probs(
    logits: torch.Tensor, labels: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities, and the gradient of the logits, in float64."""
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
    logits = hidden * 1.0  # As a layer computes them: not a leaf of the graph.
    exact, exact_grad = exact_log_probs(logits, labels, grad)
    actual = compute_log_probs(logits, labels, in_place)
    assert actual.dtype == grad.dtype
    torch.testing.assert_close(actual.double(), exact, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5)
    before = logits.detach().clone()
    actual.backward(grad)
    torch.testing.assert_close(hidden.grad.double(), exact_grad, rtol=tolerance, atol=tolerance)
    assert torch.equal(before, logits) != in_place


def test_verls_fallback_rounds_to_bfloat16():
    torch.manual_seed(0)
    logits, labels = (3 * torch.randn(M, V)).bfloat16(), torch.randint(V, (M,))
    exact, _ = exact_log_probs(logits, labels, torch.ones(M))
    errors = {
        name: (log_probs.double() - exact).abs().max().item()
        for name, log_probs in (
            ("verl", torch_functional.logprobs_from_logits_v2(logits, labels)),
            ("ours", compute_log_probs(logits, labels, True)),
        )
    }
    assert errors["ours"] < 1e-5 < 1e-3 < errors["verl"]


def test_no_rows():
    logits = torch.zeros(0, V, requires_grad=True)
    actual = compute_log_probs(logits, torch.zeros(0, dtype=torch.long), False)
    actual.sum().backward()
    assert actual.shape == (0,)
    assert logits.grad.shape == (0, V)


@pytest.mark.parametrize(("flash", "disabled", "kernel"), [(True, "0", True), (True, "1", False), (False, "0", False)])
def test_flash_attns_kernel_is_used_if_verl_would_use_it(flash: bool, disabled: str, kernel: bool, monkeypatch):
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
    compute_log_probs(torch.zeros(M, V), torch.zeros(M, dtype=torch.long), True)
    assert calls == [True] * kernel


def test_verl_still_has_the_flags_of_its_kernels():
    assert isinstance(torch_functional.FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE, bool)
    assert isinstance(torch_functional.NPU_CROSS_ENTROPY_LOSS_AVAILABLE, bool)
