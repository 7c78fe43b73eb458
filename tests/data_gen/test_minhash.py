"""Near-duplicates are found at the similarity that was asked for, and nothing else is."""

import random

import pytest

from data_gen.minhash import NearDuplicates, minhash_signature


def text(seed, words=400):
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(5000)}" for _ in range(words))


def changed(original, share, seed=0):
    """`original` with a share of its words replaced."""
    draw, words = random.Random(seed), original.split()
    for i in draw.sample(range(len(words)), round(share * len(words))):
        words[i] = f"new{i}"
    return " ".join(words)


def test_near_copies_are_found_and_others_are_not():
    near = NearDuplicates(0.8)
    for seed in range(50):
        assert near.add(f"doc{seed}", minhash_signature(text(seed))) is None
    other, similarity = near.add("copy", minhash_signature(changed(text(7), 0.01)))
    assert other == "doc7"
    assert 0.8 < similarity < 1.0
    assert near.add("far", minhash_signature(changed(text(7), 0.3))) is None
    assert near.add("case", minhash_signature(text(3).upper() + " !"))[0] == "doc3"


@pytest.mark.parametrize(("threshold", "found"), [(0.5, True), (0.95, False)])
def test_the_threshold_counts(threshold, found):
    near = NearDuplicates(threshold)
    near.add("a", minhash_signature(text(0)))
    assert (near.add("b", minhash_signature(changed(text(0), 0.04))) is not None) is found


def test_short_texts_have_signatures_too():
    near = NearDuplicates(0.8)
    assert near.add("a", minhash_signature("one two")) is None
    assert near.add("b", minhash_signature("One, two!")) == ("a", 1.0)
    assert near.add("c", minhash_signature("three")) is None
    assert near.add("d", minhash_signature("")) is None
