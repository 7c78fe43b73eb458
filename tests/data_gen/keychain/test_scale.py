"""A prompt of a million tokens is made as one of four thousand is: exact, proven, in less time than tokenising it."""

import random
import time

import pytest

from data_gen.keychain import prompts
from data_gen.keychain.chain_solver import solve_chain
from data_gen.keychain.chains import ChainOptions
from data_gen.keychain.fill import prove_chain
from data_gen.keychain.passage_pool import Haystack, PassageMeasure, build_haystack
from data_gen.keychain.prompt_composer import PlacedQuestion, PromptComposeOptions, PromptComposer

pytestmark = pytest.mark.engine
MILLION = 1 << 20


@pytest.fixture(scope="module")
def large(rows, tokenizer, tmp_path_factory):
    """A haystack of more than two million tokens."""
    draw, folder = random.Random(0), tmp_path_factory.mktemp("large")
    said = [sentence for row in rows for _, sentences in row["context"] for sentence in sentences]
    texts = (f"Account {number}\n" + " ".join(draw.choices(said, k=24)) for number in range(6000))
    build_haystack(folder, texts, PassageMeasure(tokenizer.backend_tokenizer))
    return Haystack(folder)


@pytest.mark.parametrize("budget", [4096, 262_144, MILLION])
def test_prompts_of_any_length(large, counter, budget, monkeypatch):
    chains = ChainOptions()
    others = [f"Who wrote account number {number}?" for number in range(1200)]
    composer = PromptComposer(large, counter, PromptComposeOptions(budget), chains, others, 0)
    assert composer.by_sums
    one = PlacedQuestion("one", "Who wrote the last account?", ("nobody in particular",), (7, 8, 9), (7, 9))
    drawn, raw = [], large.raw
    monkeypatch.setattr(large, "raw", lambda passage: drawn.append(passage) or raw(passage))
    began = time.perf_counter()
    made = composer.keychain(one)
    prove_chain(made, one.question)
    composing = time.perf_counter() - began
    assert len(drawn) < 2 * made.passages + 100  # linear: passages are drawn once, but for those drawn already
    began = time.perf_counter()
    assert made.tokens == counter.count([prompts.messages(made.text)])[0]
    assert 0.99 * budget <= made.tokens <= budget
    tokenising = time.perf_counter() - began
    assert composing < 3 * tokenising + 0.1  # by far, but for a machine that is busy with other things
    assert solve_chain(made.text).pairs == chains.number_of_chains(budget) * chains.hops
    assert len(made.gold_at) == 2
