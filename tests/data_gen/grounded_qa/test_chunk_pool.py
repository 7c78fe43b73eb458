"""Chunks cover a passage, their counts add up to the prompt's, and evidence is found in the right ones."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verl_longrl.data.prompt import grounded_prompt

from data_gen.grounded_qa.chunk_pool import ChunkLengths, ChunkMeasure, ChunkPool, framed
from data_gen.grounding.chunk import ChunkOptions
from data_gen.keychain.passage_pool import build_haystack

pytestmark = pytest.mark.engine
SENTENCE = "The bridge of Arvik was opened in 1750. "
PIECES = ["a", "Ü", "7", ".", " ", "\n", "<", ">", "中", "bridge ", "1750. "]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=30).map(lambda pieces: "".join(pieces).strip())
SETTINGS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def build(folder, tokenizer, texts, max_tokens=32):
    build_haystack(folder, texts, ChunkMeasure(tokenizer.backend_tokenizer, ChunkOptions(max_tokens)))
    return ChunkPool(folder)


def chunk_texts(pool, passage):
    raw = pool.raw(passage)
    return [raw[start:end].decode() for start, end, _ in pool.chunks(passage)]


@SETTINGS
@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=12))
def test_counts_add_up_to_the_prompt_s(counter, texts):
    lengths = ChunkLengths(counter)
    content = grounded_prompt(texts, "Who was it?")[0]["content"]
    total = lengths.fixed("Who was it?", content.partition("Who was it?\n\n")[2]) + lengths.headings(len(texts))
    assert total + sum(lengths.count([framed(text) for text in texts])) == lengths.prompt(content)


def test_numbers_of_more_digits_add_up(counter):
    lengths = ChunkLengths(counter)
    texts = ["9 of 10"] * 1203
    content = grounded_prompt(texts, "Who?", "Go.")[0]["content"]
    count = lengths.fixed("Who?", "Go.") + lengths.headings(1203) + 1203 * lengths.count([framed(texts[0])])[0]
    assert count == lengths.prompt(content)


def test_passages_become_chunks(tmp_path, tokenizer):
    texts = [
        "Short\nOne sentence.",
        f"The Title\n{SENTENCE * 20}".strip(),
        "\n\n".join(f"Über {n}. {SENTENCE * 2}".strip() for n in range(5)),
        f"{SENTENCE.strip()[:-1]} {SENTENCE * 9}\n{SENTENCE * 9}".strip(),
    ]
    pool = build(tmp_path, tokenizer, texts)
    assert [pool.find(text) for text in texts] == [0, 1, 2, 3]
    for number, text in enumerate(texts):
        chunks = chunk_texts(pool, number)
        assert "".join("".join(chunks).split()) == "".join(text.split())  # all but white space
        counts = [tokens for _, _, tokens in pool.chunks(number)]
        framed_counts = [len(tokenizer.encode(framed(chunk), add_special_tokens=False)) for chunk in chunks]
        assert (counts, int(pool.tokens[number])) == (framed_counts, sum(counts))
        assert max(len(tokenizer.encode(chunk, add_special_tokens=False)) for chunk in chunks) <= 32
    assert chunk_texts(pool, 0) == texts[:1]
    assert chunk_texts(pool, 1)[0].startswith(f"The Title\n{SENTENCE.strip()}")
    by_chunks = ChunkPool(tmp_path, "chunks")
    assert by_chunks.tokens.tolist() == [len(pool.chunks(number)) for number in range(4)]
    assert by_chunks.of_length(1, 1).tolist() == [0]


def test_evidence_is_in_the_chunks_that_share_a_word_with_it(tmp_path, tokenizer):
    text = "".join(f"Ünder {n} is the bridge of Arvik, number {n}. " for n in range(12)).strip()
    pool = build(tmp_path, tokenizer, [text])
    chunks = chunk_texts(pool, 0)
    assert len(chunks) > 4
    for n in range(12):
        sentence = f"Ünder {n} is the bridge of Arvik, number {n}."
        at = text.index(sentence)
        # The next chunk may begin with the full stop of this sentence.
        holding = [number for number, chunk in enumerate(chunks) if sentence[:-1] in chunk]
        assert pool.overlapping(0, [(at, at + len(sentence))]) == holding
        assert len(holding) == 1
    assert pool.overlapping(0, [(0, len(text))]) == list(range(len(chunks)))
    assert pool.overlapping(0, []) == []
    runs = [run.decode() for run in pool.runs(0, [0, 1, 3])]
    assert "".join("".join(runs).split()) == "".join((chunks[0] + chunks[1] + chunks[3]).split())
    assert len(runs) == 2
