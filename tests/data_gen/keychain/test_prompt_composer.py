"""Every prompt has its length to the token, one solution, and its passages anywhere."""

import json
import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verl_longrl.data.prompt_lengths import PromptCounter

from data_gen.keychain import prompts
from data_gen.keychain.chains import ChainOptions
from data_gen.keychain.exact_length import CHECK_EVERY, ComposeError, Unfillable
from data_gen.keychain.fill import prove_chain
from data_gen.keychain.passage_filler import answer_pattern
from data_gen.keychain.passage_pool import Haystack, PassageMeasure, build_haystack
from data_gen.keychain.prompt_composer import (
    PlacedQuestion,
    PromptComposeOptions,
    PromptComposer,
)
from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.text import derive_seed
from data_gen.tokenizer import BUILTIN, load_tokenizer

pytestmark = pytest.mark.engine
PAIR = re.compile(r' (\{"[0-9a-f-]{8,36}": ".*?"\})\.(?= |\n|$)')


@pytest.fixture
def compose(haystack, counter, asked):
    """compose(budget, chains, seed, **options) -> a PromptComposer."""

    def make(budget=4096, chains=None, seed=0, **options):
        chains = chains or ChainOptions()
        others = [a.question for a in asked]
        return PromptComposer(haystack, counter, PromptComposeOptions(budget, **options), chains, others, seed)

    return make


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    budget=st.integers(3000, 9000),
    hops=st.integers(1, 5),
    identifiers=st.sampled_from(["uuid", "hex8"]),
    structures=st.lists(st.sampled_from(["plain", "unequal", "dangling", "loop", "fork"]), min_size=1, unique=True),
    order=st.sampled_from(["random", "reverse"]),
    which=st.integers(0, 199),
    seed=st.integers(0, 5),
)
def test_any_prompt(compose, counter, asked, budget, hops, identifiers, structures, order, which, seed):
    chains = ChainOptions(1.0, hops, identifiers, tuple(structures), order)
    composer = compose(budget, chains, seed)
    assert composer.by_sums
    made = composer.keychain(asked[which])
    assert made.tokens == counter.count([prompts.messages(made.text)])[0]  # by tokenising the whole prompt
    assert 0.99 * budget <= made.tokens <= budget
    prove_chain(made, asked[which].question)

    pairs = [json.loads(found) for found in PAIR.findall(made.text)]  # valid JSON, all of them
    keys = [key for pair in pairs for key in pair]
    assert len(made.keys) == hops
    assert len(set(made.keys)) == hops
    assert set(made.keys) <= set(keys)
    if "fork" not in structures:
        assert len(set(keys)) == len(keys)
    places = [made.text.index(f'{{"{key}": ') for key in made.keys]
    assert order == "random" or places == sorted(places, reverse=True)
    if order == "reverse" and structures == ["plain"]:  # not the true chain alone
        at = {next(iter(json.loads(f))): made.text.index(f) for f in PAIR.findall(made.text)}
        links = [next(iter(json.loads(f).items())) for f in PAIR.findall(made.text)]
        assert all(at[value] < at[key] for key, value in links if value in at)
    assert made == compose(budget, chains, seed).keychain(asked[which])


def test_pairs_are_at_real_sentence_ends_only(compose, asked):
    made = compose().keychain(asked[3])
    without = PAIR.sub("", made.text)
    ends = set(sentence_ends(without))
    removed, places = 0, []
    for found in PAIR.finditer(made.text):
        places.append(found.start() - removed)
        removed += len(found[0])
    assert len(places) == 16
    assert set(places) <= ends
    whole = compose().filler.haystack
    bodies = {whole.raw(n).decode() for n in range(len(whole))}
    shown = re.split(r"(?:^|\n\n)Passage \d+:\n", without.partition("Key-value pairs")[0].strip())[1:]
    assert len(shown) == made.passages
    assert sum(text.strip() in bodies for text in shown) >= made.passages - 1  # but for one that may be cut


def test_gold_passages_are_anywhere(compose, asked):
    composer = compose()
    thirds = Counter(3 * at // made.passages for one in asked for made in [composer.plain(one)] for at in made.gold_at)
    expected = sum(thirds.values()) / 3
    assert sum(thirds.values()) == 2 * len(asked)
    chi_square = sum((thirds[third] - expected) ** 2 / expected for third in range(3))
    assert chi_square < 13.8  # p = 0.001 with two degrees of freedom


def test_other_passages_hold_neither_the_answer_nor_the_questions_own(compose, asked, haystack):
    one = asked[0]
    answer = one.answers[0]
    with_answer = compose(exclude_answers=False).plain(one).text.count(answer)
    own = sum(haystack.raw(n).decode().count(answer) for n in one.own)
    assert compose().plain(one).text.count(answer) == own < with_answer
    text = compose().plain(one).text
    for number in one.own:
        assert text.count(haystack.raw(number).decode()) == 1


def test_yes_and_no_exclude_nothing(compose, asked):
    assert compose().plain(replace(asked[0], answers=("no",))).tokens > 4000


def test_another_seed_is_another_prompt(compose, asked):
    made = [compose(seed=seed).keychain(asked[5]) for seed in (0, 1)]
    assert made[0].keys != made[1].keys
    assert made[0].text != made[1].text


def test_false_questions_are_not_the_true_one(compose, asked, haystack, counter):
    same = "  WHERE was the author -- of " + asked[0].question.partition("of ")[2].upper()
    others = [same, *(a.question for a in asked[:20])]
    composer = PromptComposer(haystack, counter, PromptComposeOptions(4096), ChainOptions(4.0, 2, "hex8"), others, 0)
    for _ in range(3):
        text = composer.keychain(asked[0]).text
        assert same not in text
        assert text.count(asked[0].question) == 1


def test_a_tokenizer_for_which_sums_are_wrong_is_counted_whole(rows, asked, tmp_path):
    tokenizer = load_tokenizer(BUILTIN)  # SentencePiece: a text by itself begins with a space of its own
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}[assistant]"
    folder = tmp_path / "h"
    texts = [f"{title}\n{' '.join(sentences)}" for row in rows for title, sentences in row["context"]]
    build_haystack(folder, texts, PassageMeasure(tokenizer.backend_tokenizer))
    counter, others = PromptCounter(tokenizer), [a.question for a in asked]
    composer = PromptComposer(Haystack(folder), counter, PromptComposeOptions(4096), ChainOptions(), others, 0)
    assert not composer.by_sums
    for one in asked[:5]:
        made = composer.keychain(one)
        assert made.tokens == counter.count([prompts.messages(made.text)])[0]
        assert 0.99 * 4096 <= made.tokens <= 4096
        prove_chain(made, one.question)
    wrong = PromptComposer(
        Haystack(folder), counter, PromptComposeOptions(4096, counting="sums"), ChainOptions(), others, 0
    )
    checked = [one for one in asked if derive_seed(0, "check", one.id) % CHECK_EVERY == 0]
    with pytest.raises(ComposeError, match=r"sums are not exact for this tokenizer. Fix: set compose.counting=whole"):
        wrong.keychain(checked[0])


def test_what_cannot_be_made_is_said(compose, asked, haystack, counter):
    with pytest.raises(
        ComposeError,
        match=r"compose.max_prompt_tokens = 1000000: the haystack has only [\d,]+ tokens in .* fewer than two prompts",
    ):
        compose(1_000_000)
    with pytest.raises(ComposeError, match=r"take \d+ of its 4096 tokens.*chains.identifiers=hex8"):
        compose(4096, ChainOptions(per_1k_tokens=16))
    with pytest.raises(Unfillable, match=r"its own passages and the links take \d+ of 2048 tokens"):
        compose(2048).keychain(replace(asked[0], own=tuple(range(30))))
    few = [asked[0].question, asked[1].question]
    with pytest.raises(ComposeError, match=r"there are 2 different questions.*lower chains.per_1k_tokens"):
        PromptComposer(haystack, counter, PromptComposeOptions(4096), ChainOptions(), few, 0)


@pytest.mark.parametrize("answer", ["the", "a", "A", "of", "in the", "no", "True", "x"])
def test_answers_that_stand_everywhere_exclude_nothing(compose, asked, answer):
    assert answer_pattern([answer]) is None
    assert compose().plain(replace(asked[0], answers=(answer,))).tokens > 4000


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("New York City", "it was new york\ncity, then", True),
        ("北京", "他住在北京市。", True),
        ("Arvik", "in arvikson", False),
        ("3.5 million", "cost 3.5 million crowns", True),
        ("C++", "written in c++ and c", True),
        ("Over the Sea", "over the sea", True),
    ],
)
def test_answers_are_found_as_whole_words(answer, text, found):
    assert bool(answer_pattern([answer]).search(text)) is found


def test_a_long_question_takes_nobody_elses_room(asked, haystack, counter):
    long = "Why " * 3000
    others = [long, *(a.question for a in asked)]
    composer = PromptComposer(haystack, counter, PromptComposeOptions(4096), ChainOptions(), others, 0)
    assert all(long not in composer.keychain(one).text for one in asked[:5])
    with pytest.raises(Unfillable, match="the question alone"):
        composer.keychain(replace(asked[0], question=long))


def test_what_no_passage_fits_is_that_question_s_own_trouble(compose, asked, haystack):
    composer = compose(1024, chains=None)
    task = composer.lengths.prompt(prompts.OPENING + prompts.plain_question("Who?"))
    draw = random.Random(0)
    while True:  # own passages that leave more than one percent, and less than any passage needs
        own = tuple(draw.sample(range(len(haystack)), 8))
        left = 1024 - task - sum(int(haystack.tokens[n]) for n in own) - composer.lengths.headings(9)
        if 8 <= left <= 12:
            break
    with pytest.raises(Unfillable, match="no passage fits the last") as failed:
        composer.plain(PlacedQuestion("a", "Who?", (), own))
    assert failed.value.reason == "no_filling"


def test_without_chains_few_questions_will_do(haystack, counter, asked):
    composer = PromptComposer(haystack, counter, PromptComposeOptions(4096), None, [asked[0].question], 0)
    assert composer.by_sums
    assert composer.plain(asked[0]).tokens > 4000


def test_own_passages_alone_may_be_the_prompt(compose, asked):
    made = compose(3000).plain(PlacedQuestion("a", "Who?", (), asked[0].own))
    assert made.passages > len(asked[0].own)
