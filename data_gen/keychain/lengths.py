"""Token counts of the parts of prompts, which add up to the length of a prompt.

Every part (passage, heading, pair of a chain) is counted once. Sums are exact if parts are joined at places where the
tokenizer begins a new token anyway. `prompts.py` ensures this for byte-level tokenizers such as Qwen's and Llama 3's;
`PromptComposer` tests it for the tokenizer in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from verl_longrl.data.prompt_lengths import PromptCounter

from data_gen.keychain import prompts
from data_gen.keychain.passage_pool import count_tokens


class PartLengths:
    """Counts the tokens of texts, whole prompts, and headings."""

    def __init__(self, counter: PromptCounter):
        self._counter = counter
        self._backend: Any = counter.tokenizer.backend_tokenizer
        self._headings = np.zeros(1, dtype=np.int64)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself."""
        return count_tokens(self._backend, texts)

    def prompt(self, text: str) -> int:
        """Tokens of a prompt with this text as the user's turn, as the model sees it."""
        return self._counter.count([prompts.messages(text)])[0]

    def each_heading(self, numbers: Sequence[int]) -> list[int]:
        """Tokens of the heading of each of these passages, which are numbered from 1."""
        return self.count([prompts.heading(number) for number in numbers])

    def headings(self, passages: int) -> int:
        """Tokens of the headings of this many passages."""
        # _headings[n] is the sum for n passages. It grows by doubling, so that a prompt of n passages costs O(n) once.
        while len(self._headings) <= passages:
            have = len(self._headings) - 1
            more = self.each_heading(range(have + 1, 2 * have + 65))
            self._headings = np.concatenate([self._headings, self._headings[-1] + np.cumsum(more)])
        return int(self._headings[passages])
