"""Every prompt has its length to the token, one solution, and its passages anywhere."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verl_longrl.data.lengths import PromptCounter

from data_gen.keychain import prompts
from data_gen.keychain.chains import ChainOptions
from data_gen.keychain.compose import CHECK_EVERY, Asked, ComposeError, ComposeOptions, Composer, TooLong
from data_gen.keychain.fill import prove
from data_gen.keychain.haystack import Haystack, build
from data_gen.keychain.sentences import sentence_ends
from data_gen.tokenizer import BUILTIN, load_tokenizer

pytestmark = pytest.mark.engine
PAIR = re.compile(r' (\{"[0-9a-f-]{8,36}": ".*?"\})\.(?= |\n|$)')


@pytest.fixture
def compose(haystack, counter, asked):
    """compose(budget, chains, seed, **options) -> a Composer."""

    def make(budget=4096, chains=None, seed=0, **options):
        chains = chains or ChainOptions()
        others = [a.question for a in asked]
        return Composer(haystack, counter, ComposeOptions(budget, **options), chains, others, seed)

    return make


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
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
    prove(made, asked[which].question)

    pairs = [json.loads(found) for found in PAIR.findall(made.text)]  # valid JSON, all of them
    keys = [key for pair in pairs for key in pair]
    assert len(made.keys) == hops
    assert len(set(made.keys)) == hops
    assert set(made.keys) <= set(keys)
    if "fork" not in structures:
        assert len(set(keys)) == len(keys)
    places = [made.text.index(f'{{"{key}": ') for key in made.keys]
    assert order == "random" or places == sorted(places, reverse=True)
    assert made == compose(budget, chains, seed).keychain(asked[which])


def test_pairs_stand_at_real_sentence_ends_only(compose, asked):
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
    shown = re.split(r"(?:^|\n\n)Passage \d+:\n", without.partition("Pairs of")[0].strip())[1:]
    assert len(shown) == made.passages
    assert sum(text.strip() in bodies for text in shown) >= made.passages - 1  # but for one that may be cut


def test_gold_passages_stand_anywhere(compose, asked):
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
    composer = Composer(haystack, counter, ComposeOptions(4096), ChainOptions(4.0, 2, "hex8"), others, 0)
    for _ in range(3):
        text = composer.keychain(asked[0]).text
        assert same not in text
        assert text.count(asked[0].question) == 1


def test_a_tokenizer_for_which_sums_are_wrong_is_counted_whole(rows, asked, tmp_path):
    tokenizer = load_tokenizer(BUILTIN)  # SentencePiece: a text by itself begins with a space of its own
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}[assistant]"
    folder = tmp_path / "h"
    texts = [f"{title}\n{' '.join(sentences)}" for row in rows for title, sentences in row["context"]]
    build(folder, texts, tokenizer.backend_tokenizer)
    counter, others = PromptCounter(tokenizer), [a.question for a in asked]
    composer = Composer(Haystack(folder), counter, ComposeOptions(4096), ChainOptions(), others, 0)
    assert not composer.by_sums
    for one in asked[:5]:
        made = composer.keychain(one)
        assert made.tokens == counter.count([prompts.messages(made.text)])[0]
        assert 0.99 * 4096 <= made.tokens <= 4096
        prove(made, one.question)
    wrong = Composer(Haystack(folder), counter, ComposeOptions(4096, counting="sums"), ChainOptions(), others, 0)
    for one in asked[: CHECK_EVERY - 1]:
        wrong.keychain(one)
    with pytest.raises(ComposeError, match=r"sums are not right for this tokenizer; set compose.counting=whole"):
        wrong.keychain(asked[CHECK_EVERY])


def test_what_cannot_be_made_is_said(compose, asked, haystack, counter):
    with pytest.raises(
        ComposeError, match=r"the haystack has [\d,]+ tokens in .* too few to fill prompts of 1,000,000"
    ):
        compose(1_000_000)
    with pytest.raises(ComposeError, match=r"take \d+ of its 4096 tokens.*chains.identifiers=hex8"):
        compose(4096, ChainOptions(per_1k_tokens=16))
    with pytest.raises(TooLong, match="its own passages and chains take more than 2048 tokens"):
        compose(2048).keychain(replace(asked[0], own=tuple(range(30))))
    few = [asked[0].question, asked[1].question]
    with pytest.raises(ComposeError, match=r"there are 2 different questions.*lower chains.per_1k_tokens"):
        Composer(haystack, counter, ComposeOptions(4096), ChainOptions(), few, 0)


def test_own_passages_alone_may_be_the_prompt(compose, asked):
    made = compose(3000).plain(Asked("a", "Who?", (), asked[0].own))
    assert made.passages > len(asked[0].own)
