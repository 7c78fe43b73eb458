"""A haystack gives back what was put in, each text once, with its length and its sentence ends."""

import numpy as np
import pytest

from data_gen.keychain.haystack import ENDING, Haystack, HaystackError, build
from data_gen.keychain.sentences import sentence_ends

pytestmark = pytest.mark.engine
TEXTS = ["A\nOne ends. Two begins.", "Ü\nÜber alles? Ja. Ärger!", "A\nOne ends. Two begins.", "empty", "x " * 300]


@pytest.fixture
def small(tmp_path, tokenizer):
    assert build(tmp_path / "h", TEXTS, tokenizer.backend_tokenizer) == 4
    return Haystack(tmp_path / "h")


def test_passages_come_back(small, tokenizer):
    different = list(dict.fromkeys(TEXTS))
    assert [small.raw(n).decode() for n in range(4)] == different
    assert [small.find(text) for text in different] == [0, 1, 2, 3]
    counted = [len(tokenizer.encode(text + ENDING, add_special_tokens=False)) for text in different]
    assert small.tokens.tolist() == counted
    assert small.total_tokens == sum(counted)
    for number, text in enumerate(different):
        before = [text.encode()[:end].decode() for end in small.ends(number)]
        assert before == [text[:end] for end in sentence_ends(text)]


def test_passages_of_a_length(small):
    lengths = small.tokens
    found = small.of_length(int(np.median(lengths)), 10**6)
    assert [int(lengths[n]) for n in found] == sorted(n for n in lengths.tolist() if n >= np.median(lengths))
    assert len(small.of_length(1, 0)) == 0


def test_a_complete_haystack_is_not_built_again(small, tmp_path, tokenizer):
    def never():
        raise AssertionError
        yield

    assert build(tmp_path / "h", never(), tokenizer.backend_tokenizer) == 4


def test_what_is_not_there_is_said(small, tmp_path):
    with pytest.raises(HaystackError, match="has no passage 'other'"):
        small.find("other")
    with pytest.raises(HaystackError, match="no complete haystack; run the stage haystack first"):
        Haystack(tmp_path / "none")
