"""A haystack gives back what was put in, each text once, with its length and its sentence ends."""

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from data_gen.keychain.haystack import split_into_passages
from data_gen.keychain.passage_pool import ENDING, Haystack, HaystackError, PassageMeasure, build_haystack
from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.tokenizer import load_tokenizer

pytestmark = pytest.mark.engine
TEXTS = ["A\nOne ends. Two begins.", "Ü\nÜber alles? Ja. Ärger!", "A\nOne ends. Two begins.", "empty", "x " * 300]


@pytest.fixture
def small(tmp_path, tokenizer):
    assert build_haystack(tmp_path / "h", TEXTS, PassageMeasure(tokenizer.backend_tokenizer)) == 4
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

    assert build_haystack(tmp_path / "h", never(), PassageMeasure(tokenizer.backend_tokenizer)) == 4


def test_what_is_not_there_is_said(small, tmp_path):
    with pytest.raises(HaystackError, match="has no passage 'other'"):
        small.find("other")
    with pytest.raises(HaystackError, match=r"no complete haystack. Fix: run stage haystack first"):
        Haystack(tmp_path / "none")


def test_a_tokenizer_s_own_truncation_and_padding_are_left_out(tmp_path, tokenizer):
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.enable_truncation(8)
    backend.enable_padding(length=64)
    tokenizer_of_somebody = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer_of_somebody.save_pretrained(tmp_path / "t")
    loaded = load_tokenizer(str(tmp_path / "t")).backend_tokenizer
    assert [len(e) for e in loaded.encode_batch_fast(["a b", "x " * 99])] == [
        len(tokenizer.encode(text, add_special_tokens=False)) for text in ("a b", "x " * 99)
    ]


def test_texts_become_passages_of_a_length():
    book = "A title\n\nOne short. Two short.\n\n" + "A sentence of six words here. " * 60 + "\n\nEnd \ud800 here."
    made = list(split_into_passages(book, 40))
    assert all(len(text.split()) <= 40 for text in made)
    assert made[0].startswith("A title One short. Two short. A sentence")
    assert made[-1].endswith("End ? here.")
    assert sum(text.count("A sentence of six words here.") for text in made) == 60
