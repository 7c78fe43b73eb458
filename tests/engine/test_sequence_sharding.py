"""Every token and every wanted logit is one rank's, all get as many, and what is put together is what was dealt."""

import pytest
import torch
from verl_longrl.engine import sequence_sharding
from verl_longrl.engine.layout import Group, Layout


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("tokens", [1, 7, 8, 33])
def test_a_row_is_put_together_again(tokens, ranks):
    row = torch.randn(tokens, 3, 2)
    parts = [sequence_sharding.part(row, ranks, rank) for rank in range(ranks)]
    assert {len(part) for part in parts} == {-(-tokens // ranks)}
    assert torch.equal(sequence_sharding.parts(row, ranks), torch.cat(parts))
    assert torch.equal(sequence_sharding.row(torch.cat(parts), ranks, tokens), row)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_wanted_logits_come_back_in_their_order(ranks):
    layout = Layout([Group(13, (5, 1, 8)), Group(4, (2, 2))])
    wanted = layout.predictors
    row = torch.arange(layout.tokens) * 10  # a token's value
    kept = [sequence_sharding.kept(wanted % ranks, wanted // ranks, ranks, rank) for rank in range(ranks)]
    assert len({len(each.local) for each in kept}) == 1  # collectives take equal shapes
    computed = [sequence_sharding.part(row, ranks, rank)[each.local] for rank, each in enumerate(kept)]
    for each in kept:
        assert torch.equal(torch.cat(computed)[each.slots], row[wanted])


def test_logits_are_dealt_evenly():
    """In contiguous parts a quarter of the ranks would compute them all: the responses are the row's end."""
    layout = Layout([Group(3000, (250,) * 4)])
    wanted = layout.predictors
    dealt = sequence_sharding.kept(wanted % 4, wanted // 4, 4, 0)
    assert len(dealt.local) <= len(wanted) / 4 + 4
    assert len(sequence_sharding.kept(wanted // 1000, wanted % 1000, 4, 0).local) >= len(wanted) - 4


def test_a_rank_with_nothing_to_compute_computes_as_much_as_the_others():
    kept = sequence_sharding.kept(torch.tensor([1, 1, 1]), torch.tensor([0, 4, 5]), 2, 0)
    assert (len(kept.local), kept.slots.tolist()) == (3, [3, 4, 5])
