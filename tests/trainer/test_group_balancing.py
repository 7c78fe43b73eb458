"""Responses to one prompt stay on one rank and in one mini-batch, and ranks get equally many rows."""

import random

import pytest
from verl_longrl.trainer.group_balancing import RolloutRow, balanced_order


@pytest.mark.parametrize("seed", range(40))
def test_groups_of_equal_size_stay_whole(seed):
    draw = random.Random(seed)
    ranks, mini_batches, rollouts = draw.choice([1, 2, 4]), draw.choice([1, 2]), draw.choice([1, 2, 8])
    bins = ranks * mini_batches
    prompts = bins * draw.randrange(1, 6)
    rows = [RolloutRow(f"{n}", 1000 + 100 * n, draw.randrange(1, 300)) for n in range(prompts) for _ in range(rollouts)]
    draw.shuffle(rows)
    order = balanced_order(rows, ranks, mini_batches)
    assert sorted(order) == list(range(len(rows)))
    size = len(rows) // bins
    for number in range(bins):
        part = [rows[row].prompt for row in order[number * size : (number + 1) * size]]
        assert {part.count(prompt) for prompt in part} == {rollouts}


def test_ranks_get_equal_work():
    lengths = [16000, 1000, 1000, 8000, 8000, 16000, 4000, 4000]
    rows = [RolloutRow(f"{n}", length, 200) for n, length in enumerate(lengths) for _ in range(4)]
    order = balanced_order(rows, ranks=2)
    work = [sum(rows[row].prompt_tokens for row in order[half * 16 : half * 16 + 16]) for half in (0, 1)]
    assert work[0] == work[1]


def test_padding_comes_last_and_odd_groups_are_cut():
    rows = [RolloutRow("a", 100, 10)] * 3 + [RolloutRow("b", 50, 10)] * 2 + [RolloutRow("pad", 127, 1, padding=True)]
    order = balanced_order(rows, ranks=2)
    assert sorted(order) == list(range(6))
    for half in (order[:3], order[3:]):
        padding = [rows[row].padding for row in half]
        assert padding == sorted(padding)
    with pytest.raises(ValueError, match="6 rows do not divide into 4 ranks x 1 mini-batches"):
        balanced_order(rows, ranks=4)
