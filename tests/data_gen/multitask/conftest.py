"""Chronicles as documents, and a byte-level tokenizer that knows them."""

from contextlib import closing

import pytest
from support import fake_writer_llm, synthetic_books, tiny_bpe
from support.fake_openai_server import Server
from verl_longrl.data.prompt_lengths import PromptCounter


@pytest.fixture
def server():
    with closing(Server(fake_writer_llm.honest_reply)) as server:
        yield server


@pytest.fixture(scope="session")
def texts():
    return [synthetic_books.document(seed, 60, years=seed % 3 != 2) for seed in range(8)]


@pytest.fixture(scope="session")
def tokenizer(texts):
    return tiny_bpe.build(texts, 1500)


@pytest.fixture(scope="session")
def counter(tokenizer):
    return PromptCounter(tokenizer)
