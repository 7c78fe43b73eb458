"""Lengths of the parts of prompts, so that a prompt's own is a sum.

Every part (passage, heading, pair of a chain) is counted once. Sums are right where parts are joined at places at which
the tokenizer begins a new token anyway, which `prompts.py` sees to for byte-level tokenizers such as Qwen's and Llama
3's; `Composer` finds out whether they are for the tokenizer at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from verl_longrl.data.prompt_lengths import PromptCounter

from data_gen.keychain import prompts


class Lengths:
    """Counts texts, whole prompts, and headings."""

    def __init__(self, counter: PromptCounter):
        self._counter = counter
        self._backend: Any = counter.tokenizer.backend_tokenizer
        self._headings = np.zeros(1, dtype=np.int64)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself."""
        return [len(found) for found in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def prompt(self, text: str) -> int:
        """Tokens of a prompt with this text as the user's turn, as the model sees it."""
        return self._counter.count([prompts.messages(text)])[0]

    def headings(self, passages: int) -> int:
        """Tokens of the headings of this many passages."""
        while len(self._headings) <= passages:
            have = len(self._headings) - 1
            more = self.count([prompts.heading(number) for number in range(have + 1, 2 * have + 65)])
            self._headings = np.concatenate([self._headings, self._headings[-1] + np.cumsum(more)])
        return int(self._headings[passages])
