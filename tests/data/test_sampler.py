"""Tasks are drawn evenly, every row once per epoch, by weight and phase, and a checkpoint resumes at its position."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verl_longrl.data.sampler import MixOptions, Phase, TaskSampler

TASKS = ["common"] * 90 + ["rare"] * 9 + ["single"]


EVEN = MixOptions(balanced=True)


def sampler(options=EVEN, tasks=TASKS, lengths=None, seed=0):
    return TaskSampler(tasks, lengths if lengths is not None else [10] * len(tasks), options, seed)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.integers(0, 5))
def test_every_row_is_drawn_once_per_epoch(tasks, seed):
    one = sampler(tasks=tasks, seed=seed)
    for _ in range(3):
        assert sorted(one) == list(range(len(tasks)))


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=2))
def test_every_stretch_has_each_tasks_share(counts):
    tasks = [task for task, count in counts.items() for _ in range(count)]
    one = sampler(tasks=tasks)
    order = [tasks[row] for row in (*one, *one)]
    for window in (8, 20):
        for start in range(len(order) - window):
            found = Counter(order[start : start + window])
            for task, count in counts.items():
                assert abs(found[task] - window * count / len(tasks)) <= 1 + len(counts) / 2


def test_rare_tasks_are_in_every_batch_that_has_room_for_them():
    order = [TASKS[row] for row in sampler()]
    assert all("rare" in order[at : at + 16] for at in range(0, 96, 16))


def test_each_round_and_each_seed_has_its_own_order():
    first, second = list(one := sampler()), list(one)
    assert first != second
    assert first != list(sampler(seed=1))
    assert first == list(sampler())


def test_weights_decide_how_often_rows_are_drawn():
    counts = Counter(
        TASKS[row] for row in islice(_endless(sampler(MixOptions(weights={"rare": 5.0, "single": 0.0}))), 1350)
    )
    assert counts == {"common": 900, "rare": 450}


def _endless(one):
    while True:
        yield from one


def test_phases_limit_the_length_of_prompts():
    lengths = np.arange(100)
    phases = (Phase(prompts=70, max_prompt_tokens=49), Phase(prompts=30, max_prompt_tokens=89), Phase())
    rows = list(islice(_endless(sampler(MixOptions(phases=phases), lengths=lengths)), 300))
    assert max(rows[:70]) <= 49
    assert sorted(rows[:50]) == list(range(50))  # the short ones once, then again
    assert 49 < max(rows[70:100]) <= 89
    assert sorted(rows[100:200]) == list(range(100))


@pytest.mark.engine
@pytest.mark.parametrize("done", [0, 3, 12, 13, 40])
def test_a_checkpoint_resumes_at_its_position(done):
    from torchdata.stateful_dataloader import StatefulDataLoader

    options = MixOptions(weights={"rare": 3.0}, phases=(Phase(prompts=50, max_prompt_tokens=60), Phase()))

    def loader():
        return StatefulDataLoader(
            range(100), batch_size=8, drop_last=True, sampler=sampler(options, lengths=range(100))
        )

    def batches(one, number):
        found = []
        while len(found) < number:
            found += [batch.tolist() for batch in islice(one, number - len(found))]
        return found

    whole = batches(loader(), done + 30)
    first = loader()
    iterator, seen = iter(first), []
    while len(seen) < done:
        try:
            seen.append(next(iterator).tolist())
        except StopIteration:
            iterator = iter(first)
    state = first.state_dict()
    again = loader()
    again.load_state_dict(state)
    assert seen + batches(again, 30) == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": {"rarest": 2.0}},
            "mix.weights: no row has the task rarest. Fix: use some of common, rare, single",
        ),
        (
            {"phases": [{"max_prompt_tokens": 5}]},
            r"mix.phases\[0\].max_prompt_tokens = 5: no row of a task .*shortest of all has 10",
        ),
        ({"weights": {"rare": -1.0}}, "weights.rare = -1.0: expected a number of at least 0"),
        ({"phases": [{"max_prompt_tokens": 5}, {}]}, r"phases\[0\].prompts = null: this phase has no end"),
        ({"phases": [{"prompts": 0}]}, r"phases\[0\].prompts = 0: expected a whole number of at least 1"),
    ],
)
def test_options_that_cannot_be_met_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        sampler(MixOptions.from_dict(options))
