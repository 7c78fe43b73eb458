"""Chains of every structure lead where they should, and the true one is nobody else's."""

import random
import uuid
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.keychain.chains import ChainOptions, draw_identifier, draw_puzzle

STRUCTURES = ("plain", "unequal", "dangling", "loop", "fork")
options = st.builds(
    ChainOptions,
    hops=st.integers(1, 8),
    structures=st.lists(st.sampled_from(STRUCTURES), min_size=1, max_size=5, unique=True).map(tuple),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(options, st.integers(2, 30), st.integers(0, 2**32))
def test_the_true_chain_is_the_only_way_to_the_true_question(chains, number, seed):
    made = draw_puzzle(random.Random(seed), chains, number, 1000)
    assert len(made.true) == chains.hops
    assert [pair.question for pair in made.true] == [None] * (chains.hops - 1) + [0]
    keys = [pair.key for pair in made.true]
    assert keys[0] == made.head
    assert [pair.key2 for pair in made.true[:-1]] == keys[1:]
    mine, others = set(keys), [pair for line in made.others for pair in line]
    assert not mine & {number for pair in others for number in (pair.key, pair.key2)}
    questions = [pair.question for pair in others if pair.question is not None]
    assert sorted(questions) == list(range(1, made.questions))  # every false question once, the true one never


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures(structure):
    chains = ChainOptions(hops=3, structures=(structure,))
    made = draw_puzzle(random.Random(5), chains, 12, 1000)
    pairs = [pair for line in made.others for pair in line]
    others = Counter(pair.key for pair in pairs)
    values = {pair.key2 for pair in pairs if pair.key2 is not None}
    ends = sum(pair.question is not None for pair in pairs)
    twice = sum(number > 1 for number in others.values())
    nowhere = len(values - set(others))
    if structure in ("plain", "unequal"):
        assert (ends, twice, nowhere) == (11, 0, 0)
        assert (len(pairs) == 33) == (structure == "plain")
    elif structure == "dangling":
        assert (ends, twice, nowhere) == (0, 0, 11)
    elif structure == "loop":
        assert (ends, twice, nowhere) == (0, 0, 0)
    else:
        assert (ends, nowhere) == (11, 0)
        assert twice >= 1
        assert len(pairs) == 33 + 10


def test_identifiers_are_seeded():
    made = [draw_identifier(random.Random(3), kind) for kind in ("uuid", "uuid", "hex8")]
    assert made[0] == made[1]
    assert uuid.UUID(made[0]).version == 4
    assert len(made[2]) == 8
    assert int(made[2], 16) >= 0


def test_numbers_of_chains_are_the_published_ones():
    assert ChainOptions().number_of_chains(16384) == 16
    assert ChainOptions(per_1k_tokens=4).number_of_chains(16384) == 64
    assert ChainOptions().number_of_chains(300) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hops": 0}, "chains.hops = 0: expected a whole number of at least 1"),
        ({"per_1k_tokens": 0}, "chains.per_1k_tokens = 0: expected a number above 0"),
        ({"identifiers": "nanoid"}, "chains.identifiers = 'nanoid': expected one of uuid, hex8"),
        ({"structures": ("tree",)}, r"chains.structures\[0\] = 'tree': expected one of plain"),
        ({"structures": ()}, r"chains.structures = \[\]: expected at least one"),
        ({"order": "forward"}, "chains.order = 'forward': expected one of random, reverse"),
    ],
)
def test_wrong_options(values, message):
    with pytest.raises(ValueError, match=message):
        ChainOptions.from_dict(values, "chains.")
