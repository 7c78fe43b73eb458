"""Clusters are what HDBSCAN finds, of the sizes asked for, and on documents with planted topics they are the topics."""

from collections import Counter

import numpy as np
import pytest
from support import planted_fact_docs

from data_gen.embeddings import StaticEncoder
from data_gen.grounding.cluster import ClusterOptions, cluster_labels, clusters_of_size


@pytest.fixture(scope="module")
def encoder():
    return StaticEncoder()


@pytest.mark.parametrize("seed", range(5))
def test_planted_topics_are_found(encoder, seed):
    text, topics = planted_fact_docs.document(seed, topics=6, paragraphs=8)
    vectors = encoder.encode(text.split("\n\n"))
    groups, _ = clusters_of_size(cluster_labels(vectors, ClusterOptions(epsilon=0.15)), ClusterOptions())
    assert len(groups) >= 4
    clustered = sum(map(len, groups))
    pure = sum(Counter(topics[i] for i in group).most_common(1)[0][1] for group in groups)
    assert pure / clustered > 0.95
    assert clustered / len(topics) > 0.6


def test_centring_parts_what_a_common_direction_hides(encoder):
    text, _ = planted_fact_docs.document(0, topics=6, paragraphs=8)
    vectors = encoder.encode(text.split("\n\n"))
    vectors = vectors + 3 * np.full_like(vectors, 1 / 16)  # as if every chunk said the same, mostly
    labels = {center: cluster_labels(vectors, ClusterOptions(epsilon=0.15, center=center)) for center in (False, True)}
    assert (
        len(clusters_of_size(labels[False], ClusterOptions())[0])
        < 4
        <= len(clusters_of_size(labels[True], ClusterOptions())[0])
    )
    assert (cluster_labels(np.ones((8, 4)), ClusterOptions(center=True)) >= -1).all()


def test_sizes():
    labels = np.array([0, 0, 0, -1, 1, 1, 1, 1, 2, 2, 2, 2, 2, -1])
    assert clusters_of_size(labels, ClusterOptions(min_size=4, max_size=4)) == ([[4, 5, 6, 7]], 3)
    assert clusters_of_size(np.full(5, -1), ClusterOptions()) == ([], 0)
    assert clusters_of_size(np.zeros(0, dtype=int), ClusterOptions()) == ([], 0)


def test_too_few_chunks_are_noise():
    assert (cluster_labels(np.eye(3), ClusterOptions()) == -1).all()
    assert cluster_labels(np.zeros((0, 3)), ClusterOptions()).tolist() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_size": 1}, r"cluster.min_size = 1: expected a whole number of at least 2"),
        ({"max_size": 3}, r"cluster.max_size = 3: expected at least min_size, 4"),
        ({"epsilon": -0.1}, r"cluster.epsilon = -0.1: expected a number of at least 0 and at most 2"),
        ({"selection": "best"}, r"cluster.selection = 'best': expected one of eom, leaf"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        ClusterOptions.from_dict(options, "cluster.")
