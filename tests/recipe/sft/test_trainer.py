"""The rows of a step are a function of its number."""

import pytest

pytestmark = pytest.mark.engine


def test_each_epoch_has_every_row_once_in_another_order():
    from recipe.longrl.sft.trainer import BatchOrder

    order = BatchOrder(rows=12, batch_size=4, seed=1)
    epochs = [[row for step in range(first, first + 3) for row in order.rows_of(step)] for first in (1, 4, 7)]
    assert all(sorted(rows) == list(range(12)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 3
    assert BatchOrder(12, 4, seed=1).rows_of(5) == order.rows_of(5)
    assert BatchOrder(12, 4, seed=2).rows_of(5) != order.rows_of(5)


def test_rows_that_do_not_fill_a_batch_take_turns():
    from recipe.longrl.sft.trainer import BatchOrder

    order = BatchOrder(rows=5, batch_size=4, seed=0)
    assert len(order) == 1
    assert {row for step in range(1, 20) for row in order.rows_of(step)} == set(range(5))
    assert BatchOrder(5, 4, 0, shuffle=False).rows_of(7) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="3 rows are fewer than one batch of 4"):
        BatchOrder(3, 4, 0)
