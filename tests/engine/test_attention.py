"""The packed row's attention against a dense one in float64, values and gradients; wrong variants must fail."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from verl_longrl.engine.attention import attend
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


def dense(q, k, v, mask):
    q, k, v = (x.transpose(0, 1).repeat_interleave(H // x.shape[1], 0) for x in (q, k, v))
    return ((q @ k.mT * SCALE).masked_fill(~mask, -torch.inf).softmax(-1) @ v).transpose(0, 1)


def differences(found, layout):
    """Largest difference to the dense attention: of the output, and of the gradients."""
    q, k, v, grad = drawn(layout)
    wanted, got = dense(q, k, v, allowed(layout)), found(q, k, v)
    grads = zip(*(torch.autograd.grad(out, (q, k, v), grad) for out in (wanted, got)), strict=True)
    return (wanted - got).abs().max().item(), max((a - b).abs().max().item() for a, b in grads)


@pytest.mark.parametrize("way", ["merge", "sdpa"])
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
