"""Every token and every logit belongs to one rank, all ranks get equally many, and unsharding restores the order."""

import pytest
import torch
from verl_longrl.engine.layout import Group, Layout
from verl_longrl.engine.sequence_sharding import all_shards, shard, shard_logits, unshard


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("tokens", [1, 7, 8, 33])
def test_unsharding_restores_the_row(tokens, ranks):
    row = torch.randn(tokens, 3, 2)
    shards = [shard(row, ranks, rank) for rank in range(ranks)]
    assert {len(shard) for shard in shards} == {-(-tokens // ranks)}
    assert torch.equal(all_shards(row, ranks), torch.cat(shards))
    assert torch.equal(unshard(torch.cat(shards), ranks, tokens), row)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_gathered_logits_are_in_order(ranks):
    layout = Layout([Group(13, (5, 1, 8)), Group(4, (2, 2))])
    predictors = layout.predictor_indices
    row = torch.arange(layout.tokens) * 10  # The value of each token.
    logit_shards = [shard_logits(predictors % ranks, predictors // ranks, ranks, rank) for rank in range(ranks)]
    assert len({len(each.local_indices) for each in logit_shards}) == 1  # Collectives need equal shapes.
    computed = [shard(row, ranks, rank)[each.local_indices] for rank, each in enumerate(logit_shards)]
    for each in logit_shards:
        assert torch.equal(torch.cat(computed)[each.gathered_indices], row[predictors])


def test_logits_are_sharded_evenly():
    """With contiguous shards a quarter of the ranks would compute them all, because responses are at the row's end."""
    layout = Layout([Group(3000, (250,) * 4)])
    predictors = layout.predictor_indices
    sharded = shard_logits(predictors % 4, predictors // 4, 4, 0)
    assert len(sharded.local_indices) <= len(predictors) / 4 + 4
    assert len(shard_logits(predictors // 1000, predictors % 1000, 4, 0).local_indices) >= len(predictors) - 4


def test_a_rank_without_logits_computes_as_many_as_the_others():
    sharded = shard_logits(torch.tensor([1, 1, 1]), torch.tensor([0, 4, 5]), 2, 0)
    assert (len(sharded.local_indices), sharded.gathered_indices.tolist()) == (3, [3, 4, 5])


def test_the_docstrings_example():
    ranks, local = torch.tensor([0, 1, 0]), torch.tensor([4, 4, 5])
    first, second = (shard_logits(ranks, local, 2, rank) for rank in range(2))
    assert [x.tolist() for x in first] == [[4, 5], [0, 2], [0, 2, 1]]
    assert [x.tolist() for x in second] == [[4, 4], [1, 0], [0, 2, 1]]
