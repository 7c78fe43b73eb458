"""The packed row's attention against a dense one in float64, values and gradients; wrong variants must fail."""

import itertools
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from verl_longrl.engine.attention import _Continued, attend
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


def drawn(layout):
    """q, k, v of a row, and the gradient of its attention."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(H, True), (K, True), (K, True), (H, False)]
    rows = len(layout.is_response)
    return [
        torch.randn(rows, heads, D, dtype=torch.float64, generator=generator).requires_grad_(grad)
        for heads, grad in sizes
    ]


def allowed(layout):
    """(T, T) bool: whether a token attends to another one, by the definition of the layout."""
    kinds = [(g, r) for g, (_, responses) in enumerate(layout.groups) for r in range(len(responses) + 1)]
    of = torch.tensor(kinds).repeat_interleave(torch.tensor(layout.own.queries), 0)
    group, response = of[:, 0], of[:, 1]
    same = (group[:, None] == group) & ((response[:, None] == response) | (response == 0))
    return same.tril()


def dense(q, k, v, mask, scale=SCALE):
    q, k, v = (x.transpose(0, 1).repeat_interleave(H // x.shape[1], 0) for x in (q, k, v))
    return ((q @ k.mT * scale).masked_fill(~mask, -torch.inf).softmax(-1) @ v).transpose(0, 1)


def differences(found, layout):
    """Largest difference to the dense attention: of the output, and of the gradients."""
    q, k, v, grad = drawn(layout)
    wanted, got = dense(q, k, v, allowed(layout)), found(q, k, v)
    grads = zip(*(torch.autograd.grad(out, (q, k, v), grad) for out in (wanted, got)), strict=True)
    return (wanted - got).abs().max().item(), max((a - b).abs().max().item() for a, b in grads)


def flash_attn_varlen_func(q, k, v, q_ends, k_ends, most_q, most_k, softmax_scale, causal):
    """What flash-attn (2.1 and later) computes, by its documentation: segments by their ends, causality aligned at the
    bottom right. In plain torch, for there is no flash-attn without a GPU."""
    assert causal
    assert (most_q, most_k) == (q_ends.diff().max(), k_ends.diff().max())
    assert q_ends.dtype == k_ends.dtype == torch.int32
    outs = []
    for (q0, q1), (k0, k1) in zip(*(itertools.pairwise(ends.tolist()) for ends in (q_ends, k_ends)), strict=True):
        rows, keys = q1 - q0, k1 - k0
        mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
        outs.append(dense(q[q0:q1], k[k0:k1], v[k0:k1], mask, softmax_scale))
    return torch.cat(outs)


@pytest.fixture(autouse=True)
def flash_attn(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func))


@pytest.mark.parametrize("way", ["merge", "flash", "sdpa"])
def test_equal_to_dense_attention(layout, way):
    assert max(differences(lambda q, k, v: attend(q, k, v, layout, SCALE, way), layout)) < 1e-13


def test_a_response_sees_no_other_one():
    layout = Layout(CASES["ragged"])
    q, k, v, _ = drawn(layout)
    first = attend(q, k, v, layout, SCALE)
    changed = [x.detach().clone() for x in (q, k, v)]
    for x in changed:
        x[6] += 1.0  # the second token of the first response
    moved = (attend(*changed, layout, SCALE) != first).any(-1).any(-1)
    assert moved.tolist() == [row in (6, 7) for row in range(13)]


def merged_without_gradient(q, k, v, layout):
    """As if the log-sum-exp that merges two outputs were a constant: right values, a wrong gradient."""
    mask, outs, lses = allowed(layout), [], []
    own = torch.zeros_like(mask)
    start = 0
    for length in layout.own.queries:
        own[start : start + length, start : start + length] = True
        start += length
    repeated = [x.transpose(0, 1).repeat_interleave(H // x.shape[1], 0) for x in (q, k, v)]
    for part in (mask & own, mask & ~own):
        scores = (repeated[0] @ repeated[1].mT * SCALE).masked_fill(~part, -torch.inf)
        lses.append(scores.logsumexp(-1).detach())
        outs.append(scores.softmax(-1).nan_to_num() @ repeated[2])
    lse = torch.logaddexp(*lses)
    return sum(out * (own - lse).exp()[..., None] for out, own in zip(outs, lses, strict=True)).transpose(0, 1)


def plain_causal(q, k, v, layout):
    return dense(q, k, v, torch.ones(len(q), len(q), dtype=torch.bool).tril())


def top_left(q, k, v, layout):
    """torch's is_causal where there are more keys than queries: aligned at the wrong corner."""
    outs, start = [], 0
    for prompt, responses in layout.groups:
        shared = slice(start, start + prompt)
        for number, length in enumerate((prompt, *responses)):
            own = slice(start, start + length)
            keys = (x[own] if not number else torch.cat([x[shared], x[own]]) for x in (k, v))
            parts = (x.transpose(0, 1)[None] for x in (q[own], *keys))
            out = scaled_dot_product_attention(*parts, is_causal=True, scale=SCALE, enable_gqa=True)
            outs.append(out[0].transpose(0, 1))
            start = own.stop
    return torch.cat(outs)


@pytest.mark.parametrize(
    ("wrong", "values", "gradients"),
    [(merged_without_gradient, 1e-13, 1e-2), (plain_causal, 1e-2, 1e-2), (top_left, 1e-2, 1e-2)],
)
def test_the_comparison_finds_wrong_variants(wrong, values, gradients):
    layout = Layout(CASES["several groups"])
    found = differences(lambda q, k, v: wrong(q, k, v, layout), layout)
    assert found[0] < values if values < 1e-6 else found[0] > values
    assert found[1] > gradients


def test_layout():
    layout = Layout([Group(3, (2, 1)), Group(2, (1,))])
    assert layout.position_ids.tolist() == [0, 1, 2, 3, 4, 3, 0, 1, 2]
    assert layout.prompts.tolist() == [0, 1, 2, 6, 7]
    assert layout.responses.tolist() == [3, 4, 5, 8]
    assert layout.predictors.tolist() == [2, 3, 2, 7]
    with pytest.raises(ValueError, match="expected some, each a prompt and responses of 1 token or more"):
        Layout([Group(3, ())])


def test_gradients_of_shared_keys_are_added_up_in_float32():
    """In bfloat16, of 64 responses that each add 1/512 to 1, all would be lost."""
    layout = Layout([Group(1, (1,) * 65)])
    keys = torch.zeros(66, K, D, dtype=torch.bfloat16, requires_grad=True)
    copies = _Continued.apply(keys, layout)
    grad = torch.full_like(copies, 1 / 512)
    grad[0] = 1
    copies.backward(grad)
    assert keys.grad[0].unique().tolist() == [1 + 64 / 512]
