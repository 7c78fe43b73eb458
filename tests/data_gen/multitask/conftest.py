"""Chronicles as documents, and a byte-level tokenizer that knows them."""

import pytest
from support import synthetic_books, tiny_bpe
from verl_longrl.data.prompt_lengths import PromptCounter


@pytest.fixture(scope="session")
def texts():
    return [synthetic_books.document(seed, 60, years=seed % 3 != 2) for seed in range(8)]


@pytest.fixture(scope="session")
def tokenizer(texts):
    return tiny_bpe.build(texts, 1500)


@pytest.fixture(scope="session")
def counter(tokenizer):
    return PromptCounter(tokenizer)
