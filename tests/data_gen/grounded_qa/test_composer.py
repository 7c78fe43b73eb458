"""Prompts have their size exactly, hold the evidence where they say, and no passage that must not be there."""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verl_longrl.data.prompt import parse_chunks
from verl_longrl.data.prompt_lengths import PromptCounter

from data_gen.grounded_qa.chunk_pool import ChunkMeasure, ChunkPool
from data_gen.grounded_qa.composer import GroundedComposeOptions, GroundedComposer, GroundedQuestion, Size
from data_gen.grounding.chunk import ChunkOptions
from data_gen.keychain.exact_length import ComposeError, Unfillable
from data_gen.keychain.passage_pool import build_haystack
from recipe.longrl.demo import tokenizer as demo_tokenizer

pytestmark = pytest.mark.engine
LONG = 1 << 17
WORDS = ("bridge", "Arvik", "opened", "in", "winter", "people", "of", "the", "a", "store")


def passages(count, seed=0):
    """Texts of one to about ten chunks of 64 tokens. A fifth of them have the number 1750."""
    draw = random.Random(seed)
    for number in range(count):
        sentences = [" ".join(draw.choices(WORDS, k=9)).capitalize() + "." for _ in range(draw.choice((2, 4, 30)))]
        year = "It was in 1750. " if number % 5 == 0 else ""
        yield f"Account {number}\n{year}" + " ".join(sentences)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    build_haystack(folder, passages(1500), ChunkMeasure(tokenizer.backend_tokenizer, ChunkOptions(64)))
    return folder


@pytest.fixture(scope="module")
def pool(folder):
    return ChunkPool(folder)


@pytest.fixture(scope="module")
def composer(folder, counter):
    made = GroundedComposer(folder, counter, GroundedComposeOptions(), [Size(20_000), Size(64, "chunks")], 0)
    assert made.by_sums
    return made


def expected_texts(pool, number):
    raw = pool.raw(number)
    return [raw[start:end].decode() for start, end, _ in pool.chunks(number)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    own=st.lists(st.integers(0, 1499), min_size=1, max_size=4, unique=True),
    size=st.one_of(st.integers(5000, 20_000).map(Size), st.integers(45, 64).map(lambda n: Size(n, "chunks"))),
    data=st.data(),
)
def test_prompts_are_what_they_say(composer, pool, counter, own, size, data):
    gold = {own[0]: data.draw(st.sets(st.integers(0, len(pool.chunks(own[0])) - 1), min_size=1))}
    name = data.draw(st.text("ab", max_size=3))
    article = [(own[0] + n) % 1500 for n in range(1, 9) if (own[0] + n) % 1500 not in own]
    excluded = [(own[0] + n) % 1500 for n in range(20, 900) if (own[0] + n) % 1500 not in own]
    question = GroundedQuestion(name, "Which one?", ("1750",), tuple(own), gold, {}, article, excluded)
    prompt = composer.compose(question, size)
    chunks = parse_chunks(prompt.text)
    assert counter.count([[{"role": "user", "content": prompt.text}]]) == [prompt.tokens]
    if size.unit == "tokens":
        assert 0.99 * size.number <= prompt.tokens <= size.number
    else:
        assert prompt.num_chunks == size.number
    assert len(chunks) == prompt.num_chunks
    assert [chunks[n] for n in prompt.ref_chunks] == list(prompt.ref_chunks_text)
    assert sorted(prompt.ref_chunks_text) == sorted(expected_texts(pool, own[0])[n] for n in gold[own[0]])
    shown = {}
    for number in range(1500):
        texts = expected_texts(pool, number)
        if texts[0] in chunks:
            at = chunks.index(texts[0])
            shown[number] = [chunk for chunk in texts if chunk in chunks]
            if number in own:
                assert chunks[at : at + len(texts)] == texts  # whole, in order, neighbours
            else:
                assert number % 5, "a passage with the answer"
    assert shown.keys() >= set(own)
    assert not shown.keys() & set(excluded)
    assert prompt == composer.compose(question, size)


def test_passages_of_the_article_are_drawn_first(composer, pool):
    article = [number for number in range(1500) if len(pool.chunks(number)) == 1 and number % 5]
    question = GroundedQuestion("q", "Which one?", ("1750",), (3,), {3: [0]}, {}, article[:12])
    chunks = parse_chunks(composer.compose(question, Size(6000)).text)
    assert all(expected_texts(pool, number)[0] in chunks for number in article[:12])


def test_positions_are_uniform(composer, pool):
    own = next(number for number in range(1500) if len(pool.chunks(number)) == 1)
    places = Counter()
    for n in range(400):
        question = GroundedQuestion(f"q{n}", "Which one?", (), (own,), {own: [0]})
        places[composer.compose(question, Size(50, "chunks")).ref_chunks[0] // 5] += 1
    # 9 degrees of freedom: a value above 27.9 has a probability of 0.1 %.
    assert sum((places[tenth] - 40) ** 2 / 40 for tenth in range(10)) < 27.9


def test_leaks_are_labelled(composer, pool):
    own = next(number for number in range(1500) if len(pool.chunks(number)) > 3)
    question = GroundedQuestion("q", "Which one?", (), (own,), {own: [1]}, {own: [0, 2]})
    prompt = composer.compose(question, Size(60, "chunks"))
    (gold,) = prompt.ref_chunks
    assert prompt.leaks == (gold - 1, gold + 1)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (Size(10**7), "fill.length = 10000000: the haystack has only"),
        (Size(10**6, "chunks"), "fill.chunks = 1000000: the haystack has only"),
    ],
)
def test_a_small_haystack_is_refused(folder, counter, size, message):
    with pytest.raises(ComposeError, match=rf"{message} .* fewer than two prompts. Fix: give more files"):
        GroundedComposer(folder, counter, GroundedComposeOptions(), [size], 0)


def test_passages_that_are_too_long_are_said(composer, pool):
    own = tuple(number for number in range(1500) if len(pool.chunks(number)) > 3)[:9]
    for size in (Size(900), Size(9, "chunks")):
        with pytest.raises(Unfillable, match=r"its own passages take \d+ of the \d+ (tokens|chunks)") as error:
            composer.compose(GroundedQuestion("q", "Which?", (), own, {own[0]: [0]}), size)
        assert error.value.reason == "too_long"


def test_a_tokenizer_whose_sums_are_not_exact(tmp_path):
    """A word-level tokenizer takes <CHUNK_12> apart in another way than its parts."""
    texts = list(passages(300))
    words = demo_tokenizer.build_tokenizer([*texts, "<CHUNK_1></CHUNK_1>"])
    counter = PromptCounter(words)
    build_haystack(tmp_path, texts, ChunkMeasure(words.backend_tokenizer, ChunkOptions(64)))
    whole = GroundedComposer(tmp_path, counter, GroundedComposeOptions(counting="whole"), [Size(3000)], 0)
    for size in (Size(3000), Size(20, "chunks")):
        prompt = whole.compose(GroundedQuestion("q", "Which?", (), (3,), {3: [0]}), size)
        assert counter.count([[{"role": "user", "content": prompt.text}]]) == [prompt.tokens]
    assert 0.99 * 3000 <= whole.compose(GroundedQuestion("q", "Which?", (), (3,), {3: [0]}), Size(3000)).tokens <= 3000


def test_a_long_row(tmp_path, tokenizer, counter):
    """scripts/bench/grounded_qa.py makes rows of a million tokens in the same way."""
    said = [text.partition("\n")[2] for text in passages(40, seed=1)]
    texts = (f"Account {n} of {n % 977}\n{said[n % 40]} {said[n % 37]}" for n in range(1500))
    build_haystack(tmp_path, texts, ChunkMeasure(tokenizer.backend_tokenizer, ChunkOptions(512)))
    composer = GroundedComposer(tmp_path, counter, GroundedComposeOptions(), [Size(LONG)], 0)
    prompt = composer.compose(GroundedQuestion("one", "Which?", ("nobody",), (7, 8), {8: [0]}), Size(LONG))
    assert counter.count([[{"role": "user", "content": prompt.text}]]) == [prompt.tokens]
    assert 0.99 * LONG <= prompt.tokens <= LONG
    chunks = parse_chunks(prompt.text)
    assert chunks[prompt.ref_chunks[0]] == expected_texts(composer.pool, 8)[0]
