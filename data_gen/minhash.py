"""Find near-duplicate documents by MinHash: Jaccard similarity of their word 5-grams, candidates from an LSH index.

Source: Broder (1997); the index is datasketch's. Signatures are computed where documents are read, in parallel. One
process fills the index in document order, so the first document of a group is kept.

datasketch imports scipy, which takes half a second: only who compares documents waits for it.
"""

from __future__ import annotations

import base64

import numpy as np

from data_gen.text import words

SHINGLE = 5
PERMUTATIONS = 128
SCHEME = "affine32"


def minhash_signature(text: str) -> str:
    """The MinHash signature of a text, 128 permutations, as base 85 of 32-bit numbers."""
    from datasketch import MinHash

    tokens = words(text)
    shingles = {" ".join(tokens[i : i + SHINGLE]).encode() for i in range(max(1, len(tokens) - SHINGLE + 1))}
    minhash = MinHash(num_perm=PERMUTATIONS, seed=1, scheme=SCHEME)
    minhash.update_batch(sorted(shingles))
    return base64.b85encode(minhash.hashvalues.astype("<u4").tobytes()).decode()


class NearDuplicates:
    """The documents seen so far; about 10 KB of memory for each.

    Args:
        threshold: Jaccard similarity at which two documents count as the same, above 0, at most 1.
    """

    def __init__(self, threshold: float):
        from datasketch import MinHashLSH

        self.threshold = threshold
        self._index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
        self._signatures: dict[str, np.ndarray] = {}

    def add(self, name: str, encoded: str) -> tuple[str, float] | None:
        """The most similar document seen before, and its similarity, if that reaches the threshold. If not: None, and
        the document is added."""
        from datasketch import LeanMinHash

        values = np.frombuffer(base64.b85decode(encoded), dtype="<u4")
        minhash = LeanMinHash(seed=1, hashvalues=values, scheme=SCHEME)
        # The index returns candidates, some of them below the threshold. The share of equal hash values is an unbiased
        # estimate of the Jaccard similarity.
        similar = [(float(np.mean(self._signatures[other] == values)), other) for other in self._index.query(minhash)]
        if similar and max(similar)[0] >= self.threshold:
            similarity, other = max(similar)
            return other, similarity
        self._index.insert(name, minhash)
        self._signatures[name] = values
        return None
