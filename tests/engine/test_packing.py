"""Every row is computed once, with its own prompt, within the budget."""

import random

import pytest
from verl_longrl.engine.packing import OverBudget, PromptGroup, group_by_prompt, pack_groups, split_group


@pytest.mark.parametrize("seed", range(40))
def test_every_row_is_in_one_micro_batch_within_the_budget(seed):
    draw = random.Random(seed)
    prompts = [draw.randrange(5) for _ in range(draw.randrange(1, 40))]
    lengths, responses = [10 + 3 * prompt for prompt in prompts], [draw.randrange(1, 20) for _ in prompts]
    budget, at_least = draw.choice([45, 60, 200, 1000]), draw.randrange(1, len(prompts) + 1)
    packed = pack_groups(group_by_prompt(prompts, lengths, responses), budget, at_least)
    assert len(packed) >= at_least
    assert sorted(row for batch in packed for group in batch for row in group.rows) == list(range(len(prompts)))
    for batch in packed:
        assert 0 < sum(group.tokens for group in batch) <= budget
        for group in batch:
            assert {prompts[row] for row in group.rows} == {prompts[group.rows[0]]}
            assert group.responses == tuple(responses[row] for row in group.rows)
            assert group.prompt == lengths[group.rows[0]]


def test_groups_that_fit_are_not_split():
    grouped = group_by_prompt([b"a", b"b"] * 8, [100, 50] * 8, [10] * 16)
    assert [group.rows for group in grouped] == [tuple(range(0, 16, 2)), tuple(range(1, 16, 2))]
    assert [[group.tokens for group in batch] for batch in pack_groups(grouped, 310)] == [[180, 130]]
    assert [[group.tokens for group in batch] for batch in pack_groups(grouped, 180)] == [[180], [130]]
    assert (grouped[0].tokens, grouped[0].unshared_tokens) == (180, 880)


def test_a_group_over_the_budget_is_split():
    group = PromptGroup(100, (3, 5, 8), (30, 20, 40))
    assert split_group(group, 150) == [PromptGroup(100, (3, 5), (30, 20)), PromptGroup(100, (8,), (40,))]
    with pytest.raises(OverBudget, match=r"row 8 has 100 \+ 40 tokens, more than the 139 of a micro-batch. Fix: raise"):
        split_group(group, 139)


def test_more_micro_batches_than_rows_are_an_error():
    with pytest.raises(ValueError, match="2 rows cannot fill more than 2 micro-batches"):
        pack_groups(group_by_prompt([1, 1], [5, 5], [1, 1]), 100, at_least=3)
