"""Chunk for chunk LangChain's splitter, as exact spans, and never over the limit."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_text_splitters import RecursiveCharacterTextSplitter

from data_gen.grounding.splitter import SEPARATORS, Splitter
from data_gen.tokenizer import BUILTIN, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BUILTIN)


def oracle(tokenizer, limit, text):
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        tokenizer, chunk_size=limit, chunk_overlap=0, separators=list(SEPARATORS)
    )
    return [chunk.strip() for chunk in splitter.split_text(text) if chunk.strip()]


def size(tokenizer, text):
    return len(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False))


def prose(seed, paragraphs=60):
    """Text with everything that separates, in every nesting."""
    draw = random.Random(seed)
    word = lambda: "".join(draw.choice("abcdefghij") for _ in range(draw.randrange(1, 12)))  # noqa: E731
    ends = [". ", "! ", "? ", "; ", ", ", "\n", "\n\n", "。", "，", " ", " ", " ", " ", " ", "\n\n\n", ".\n"]
    return "".join(word() + draw.choice(ends) for _ in range(paragraphs * draw.randrange(5, 40)))


@pytest.mark.parametrize("limit", [64, 512])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_chunks_as_langchain(tokenizer, limit, seed):
    text = prose(seed)
    chunks = [text[start:end] for start, end, _ in Splitter(tokenizer.backend_tokenizer, limit).split(text)]
    expected = oracle(tokenizer, limit, text)
    assert max(size(tokenizer, chunk) for chunk in expected) <= limit  # else the last resort would make a difference
    assert chunks == expected


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.sampled_from(list("ab .,;!?\n。，é漢🙂<")) | st.characters(codec="utf-8"), max_size=400),
    st.integers(16, 40),
)
def test_any_text_is_covered_in_order_within_the_limit(tokenizer, text, limit):
    chunks = Splitter(tokenizer.backend_tokenizer, limit).split(text)
    assert "".join("".join(text[start:end].split()) for start, end, _ in chunks) == "".join(text.split())
    position = 0
    for start, end, _ in chunks:
        assert position <= start < end
        assert text[start:end] == text[start:end].strip()
        assert size(tokenizer, text[start:end]) <= limit
        position = end


def test_a_piece_without_separators_is_cut_at_spaces_or_between_tokens(tokenizer):
    splitter = Splitter(tokenizer.backend_tokenizer, 20)
    words = " ".join(f"word{i}" for i in range(100))
    chunks = [words[start:end] for start, end, _ in splitter.split(words)]
    assert " ".join(chunks) == words
    assert len(oracle(tokenizer, 20, words)) == 1  # LangChain leaves it whole
    blob = "A1b2" * 300
    pieces = splitter.split(blob)
    assert "".join(blob[start:end] for start, end, _ in pieces) == blob
    assert all(10 < tokens <= 20 for _, _, tokens in pieces[:-1])


def test_repeated_text_has_its_own_spans(tokenizer):
    text = "\n\n".join(["The same words again."] * 40)
    spans = Splitter(tokenizer.backend_tokenizer, 16).split(text)
    assert len({start for start, _, _ in spans}) == len(spans) > 10


def test_nothing_to_split(tokenizer):
    splitter = Splitter(tokenizer.backend_tokenizer, 16)
    assert splitter.split("") == splitter.split(" \n\n ") == []
    with pytest.raises(ValueError, match="max_tokens = 0; expected at least 1"):
        Splitter(tokenizer.backend_tokenizer, 0)
