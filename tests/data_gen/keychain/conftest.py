"""A small haystack of invented passages, and a byte-level tokenizer that knows them."""

import pytest
from support import hotpot_rows, tiny_bpe
from verl_longrl.data.prompt_lengths import PromptCounter

from data_gen.keychain.passage_pool import Haystack, PassageMeasure, build_haystack, passage_body
from data_gen.keychain.prompt_composer import PlacedQuestion


@pytest.fixture(scope="session")
def rows():
    return hotpot_rows.rows(200)


@pytest.fixture(scope="session")
def tokenizer(rows):
    return tiny_bpe.build(hotpot_rows.texts(rows), 2000)


@pytest.fixture(scope="session")
def counter(tokenizer):
    return PromptCounter(tokenizer)


def bodies(rows):
    return [passage_body(title, " ".join(sentences)) for row in rows for title, sentences in row["context"]]


@pytest.fixture(scope="session")
def haystack(rows, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("haystack")
    build_haystack(folder, bodies(rows), PassageMeasure(tokenizer.backend_tokenizer))
    return Haystack(folder)


@pytest.fixture(scope="session")
def asked(rows, haystack):
    """The rows as questions to compose prompts for."""
    made = []
    for row in rows:
        own = tuple(haystack.find(text) for text in bodies([row]))
        titles = {title for title, _ in row["supporting_facts"]}
        gold = tuple(n for n, (title, _) in zip(own, row["context"], strict=True) if title in titles)
        made.append(PlacedQuestion(row["_id"], row["question"], (row["answer"],), own, gold))
    return made
