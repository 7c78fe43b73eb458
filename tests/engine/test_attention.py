"""Attention of a packed row, compared with dense attention in float64. Wrong variants must fail."""

import doctest
import itertools

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from verl_longrl.engine import attention
from verl_longrl.engine import layout as layout_module
from verl_longrl.engine.attention import attend
from verl_longrl.engine.attention_check import attention_mask, dense_attention
from verl_longrl.engine.kernels import VARLEN_KERNEL
from verl_longrl.engine.layout import Group, Layout

H, K, D, SCALE = 8, 4, 16, 0.3
CASES = {
    "one of each": [Group(1, (1,))],
    "ragged": [Group(5, (3, 1, 4))],
    "eight": [Group(40, (9, 12, 30, 1, 2, 3, 4, 7))],
    "several groups": [Group(7, (2,)), Group(3, (5, 1, 1)), Group(20, (6, 6))],
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def layout(request):
    return Layout(request.param)


def random_inputs(layout):
    """q, k, v of a row, and the gradient of its output."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(H, True), (K, True), (K, True), (H, False)]
    return [
        torch.randn(layout.tokens, heads, D, dtype=torch.float64, generator=generator).requires_grad_(grad)
        for heads, grad in sizes
    ]


def masked_attention(q, k, v, mask, scale=SCALE):
    """(L, H, D)"""
    return (masked_scores(q, k, mask, scale).softmax(-1) @ expand_heads(v)).transpose(0, 1)


def masked_scores(q, k, mask, scale):
    """(H, L, S)"""
    return (expand_heads(q) @ expand_heads(k).mT * scale).masked_fill(~mask, -torch.inf)


def expand_heads(x):
    """(H, L, D), from keys or values (L, K, D)."""
    return x.transpose(0, 1).repeat_interleave(H // x.shape[1], 0)


def differences(compute, layout):
    """The largest difference from dense attention, of the output and of the gradients."""
    q, k, v, grad = random_inputs(layout)
    expected, actual = dense_attention(q, k, v, layout, SCALE), compute(q, k, v)
    grads = zip(*(torch.autograd.grad(out, (q, k, v), grad) for out in (expected, actual)), strict=True)
    return (expected - actual).abs().max().item(), max((a - b).abs().max().item() for a, b in grads)


def segment_slices(q_ends, k_ends, causal):
    """Slices of queries and of keys, and the mask, of each segment. Masks are aligned at the bottom right."""
    for (q0, q1), (k0, k1) in zip(*(itertools.pairwise(ends.tolist()) for ends in (q_ends, k_ends)), strict=True):
        mask = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool)
        yield slice(q0, q1), slice(k0, k1), mask.tril(k1 - k0 - (q1 - q0)) if causal else mask


class FlashOnCpu:
    """The GPU kernel beneath `varlen_attn` in plain torch, with the semantics that flash_api.cpp documents."""

    def __init__(self):
        self.calls, self.deterministic = [], []

    def check(self, q, k, q_ends, k_ends, most_q, most_k, causal, window):
        assert (most_q, most_k) == (q_ends.diff().max(), k_ends.diff().max())
        assert (len(q), len(k)) == (q_ends[-1], k_ends[-1])
        assert q_ends.dtype == k_ends.dtype == torch.int32
        assert window == (-1, 0 if causal else -1)
        self.calls.append((len(q), len(k), causal))

    def forward(self, q, k, v, q_ends, k_ends, most_q, most_k, dropout, causal, return_debug_mask, **how):
        self.check(q, k, q_ends, k_ends, most_q, most_k, causal, (how["window_size_left"], how["window_size_right"]))
        assert dropout == 0
        out, lse = torch.empty_like(q), q.new_empty(H, len(q))
        for rows, keys, mask in segment_slices(q_ends, k_ends, causal):
            scores = masked_scores(q[rows], k[keys], mask, how["scale"])
            out[rows] = masked_attention(q[rows], k[keys], v[keys], mask, how["scale"])
            lse[:, rows] = scores.logsumexp(-1)
        return out, lse, *(torch.empty(0, dtype=torch.uint64) for _ in range(2)), q.new_empty(0)

    def backward(self, grad, q, k, v, out, lse, q_ends, k_ends, most_q, most_k, dropout, causal, seed, offset, **how):
        self.check(q, k, q_ends, k_ends, most_q, most_k, causal, (how["window_size_left"], how["window_size_right"]))
        assert lse.is_contiguous()  # The kernel reads it by its address.
        assert lse.shape == (H, len(q))
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        self.deterministic.append(torch.are_deterministic_algorithms_enabled() and not warn_only)
        dq, dk, dv = (torch.zeros_like(x) for x in (q, k, v))
        for rows, keys, mask in segment_slices(q_ends, k_ends, causal):
            p = (masked_scores(q[rows], k[keys], mask, how["scale"]) - lse[:, rows, None]).exp()
            do, o = (x[rows].transpose(0, 1) for x in (grad, out))
            q_, k_, v_ = map(expand_heads, (q[rows], k[keys], v[keys]))
            ds = p * (do @ v_.mT - (do * o).sum(-1, keepdim=True)) * how["scale"]
            dq[rows] = (ds @ k_).transpose(0, 1)
            for total, each in ((dk, ds.mT @ q_), (dv, p.mT @ do)):
                total[keys] = each.transpose(0, 1).unflatten(1, (k.shape[1], -1)).sum(2)
        return dq, dk, dv


@pytest.fixture
def flash(monkeypatch):
    """Run the GPU code path, down to torch's operators, on the CPU."""
    kernel = FlashOnCpu()
    monkeypatch.setattr(attention, "CPU_KERNEL", VARLEN_KERNEL)
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_flash_attention_forward", kernel.forward, "CPU")
        library.impl("_flash_attention_backward", kernel.backward, "CPU")
        yield kernel


def test_merging_with_the_gpu_kernel_equals_dense_attention(layout, flash):
    assert max(differences(lambda q, k, v: attend(q, k, v, layout, SCALE, "lse_merge"), layout)) < 1e-13
    prompts, responses = (sum(lengths) for lengths in (layout.cross_segments.keys, layout.cross_segments.queries))
    self_call, cross_call = (layout.tokens, layout.tokens, True), (responses, prompts, False)
    assert flash.calls == [self_call, cross_call] * 2, "a prompt's keys are not copied for each response"


def test_inputs_of_any_strides(flash):
    """transformers passes (1, H, T, D) and Ulysses gathers, so heads may come first in memory."""
    layout = Layout(CASES["several groups"])
    q, k, v, _ = random_inputs(layout)
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v)]
    assert torch.equal(attend(*strided, layout, SCALE, "lse_merge"), attend(q, k, v, layout, SCALE, "lse_merge"))


@pytest.fixture
def full_determinism_of_verl():
    torch.use_deterministic_algorithms(True, warn_only=True)  # verl's enable_full_determinism
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("full_determinism_of_verl")
def test_full_determinism_reaches_the_kernel(flash):
    """torch's kernel is deterministic only without warn_only, which verl sets."""
    layout = Layout(CASES["ragged"])
    differences(lambda q, k, v: attend(q, k, v, layout, SCALE, "lse_merge"), layout)
    assert flash.deterministic == [True, True]
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_the_faster_backward_is_used_without_determinism(flash):
    layout = Layout(CASES["ragged"])
    differences(lambda q, k, v: attend(q, k, v, layout, SCALE, "lse_merge"), layout)
    assert flash.deterministic == [False, False]


@pytest.mark.parametrize("backend", ["lse_merge", "lower_right"])
def test_equal_to_dense_attention(layout, backend):
    assert max(differences(lambda q, k, v: attend(q, k, v, layout, SCALE, backend), layout)) < 1e-13


def test_a_response_does_not_attend_to_other_responses():
    layout = Layout(CASES["ragged"])
    q, k, v, _ = random_inputs(layout)
    before = attend(q, k, v, layout, SCALE)
    changed = [x.detach().clone() for x in (q, k, v)]
    for x in changed:
        x[6] += 1.0  # the second token of the first response
    has_changed = (attend(*changed, layout, SCALE) != before).any(-1).any(-1)
    assert has_changed.tolist() == [row in (6, 7) for row in range(13)]


def merged_without_gradient(q, k, v, layout):
    """Treat the log-sum-exp that merges two outputs as a constant: right values, a wrong gradient."""
    mask, outs, lses = attention_mask(layout), [], []
    same_segment = torch.zeros_like(mask)
    start = 0
    for length in layout.self_segments.queries:
        same_segment[start : start + length, start : start + length] = True
        start += length
    for part in (mask & same_segment, mask & ~same_segment):
        scores = masked_scores(q, k, part, SCALE)
        lses.append(scores.logsumexp(-1).detach())
        outs.append(scores.softmax(-1).nan_to_num() @ expand_heads(v))
    merged_lse = torch.logaddexp(*lses)
    return sum(out * (lse - merged_lse).exp()[..., None] for out, lse in zip(outs, lses, strict=True)).transpose(0, 1)


def plain_causal(q, k, v, layout):
    return masked_attention(q, k, v, torch.ones(len(q), len(q), dtype=torch.bool).tril())


def top_left(q, k, v, layout):
    """torch's is_causal with more keys than queries, which aligns the mask at the wrong corner."""
    outs, start = [], 0
    for prompt, responses in layout.groups:
        prompt_slice = slice(start, start + prompt)
        for number, length in enumerate((prompt, *responses)):
            own = slice(start, start + length)
            keys_values = (x[own] if not number else torch.cat([x[prompt_slice], x[own]]) for x in (k, v))
            qkv = (x.transpose(0, 1)[None] for x in (q[own], *keys_values))
            out = scaled_dot_product_attention(*qkv, is_causal=True, scale=SCALE, enable_gqa=True)
            outs.append(out[0].transpose(0, 1))
            start = own.stop
    return torch.cat(outs)


@pytest.mark.parametrize(
    ("wrong", "values", "gradients"),
    [(merged_without_gradient, 1e-13, 1e-2), (plain_causal, 1e-2, 1e-2), (top_left, 1e-2, 1e-2)],
)
def test_the_comparison_finds_wrong_variants(wrong, values, gradients):
    layout = Layout(CASES["several groups"])
    of_values, of_gradients = differences(lambda q, k, v: wrong(q, k, v, layout), layout)
    assert of_values < values if values < 1e-6 else of_values > values
    assert of_gradients > gradients


def test_layout():
    assert doctest.testmod(layout_module).failed == 0
    layout = Layout([Group(3, (2, 1)), Group(2, (1,))])
    assert layout.group_slices == ((slice(0, 3), slice(3, 6)), (slice(6, 8), slice(8, 9)))
    assert layout.attended_slices[:3] == ((slice(0, 3),), (slice(0, 3), slice(3, 5)), (slice(0, 3), slice(5, 6)))
    with pytest.raises(ValueError, match="expected at least one group, with a prompt and responses of 1 token or more"):
        Layout([Group(3, ())])


@pytest.mark.parametrize("backend", ["lse_merge", "lower_right"])
def test_gradients_of_shared_values_are_added_up_in_float32(backend):
    """64 responses each add 1/512 to 1. In bfloat16 all of them would be rounded away."""
    layout = Layout([Group(1, (1,) * 64)])
    q, k = torch.zeros(65, H, D, dtype=torch.bfloat16), torch.zeros(65, K, D, dtype=torch.bfloat16)
    v = k.clone().requires_grad_()
    grad = torch.full_like(q, 2 / 512 / (H // K))  # Half of a response's attention is on the prompt's token.
    grad[0] = 1 / (H // K)
    attend(q, k, v, layout, SCALE, backend).backward(grad)
    assert v.grad[0].unique().tolist() == [1 + 64 / 512]
