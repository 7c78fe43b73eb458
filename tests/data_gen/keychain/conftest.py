"""A small haystack of invented passages, and a byte-level tokenizer that knows them."""

import bpe
import multihop
import pytest
from verl_longrl.data.lengths import PromptCounter

from data_gen.keychain.compose import Asked
from data_gen.keychain.haystack import Haystack, body, build


@pytest.fixture(scope="session")
def rows():
    return multihop.rows(200)


@pytest.fixture(scope="session")
def tokenizer(rows):
    return bpe.build(multihop.texts(rows), 2000)


@pytest.fixture(scope="session")
def counter(tokenizer):
    return PromptCounter(tokenizer)


def bodies(rows):
    return [body(title, " ".join(sentences)) for row in rows for title, sentences in row["context"]]


@pytest.fixture(scope="session")
def haystack(rows, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("haystack")
    build(folder, bodies(rows), tokenizer.backend_tokenizer)
    return Haystack(folder)


@pytest.fixture(scope="session")
def asked(rows, haystack):
    """The rows as questions to compose prompts for."""
    made = []
    for row in rows:
        own = tuple(haystack.find(text) for text in bodies([row]))
        titles = {title for title, _ in row["supporting_facts"]}
        gold = tuple(n for n, (title, _) in zip(own, row["context"], strict=True) if title in titles)
        made.append(Asked(row["_id"], row["question"], (row["answer"],), own, gold))
    return made
