"""Retrieval prompts have their length to the token, one answer, and a reward that pays for it alone."""

import itertools
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.rewards import RewardOptions, score

from data_gen.keychain import needles as module
from data_gen.keychain import prompts
from data_gen.keychain.exact_length import ComposeError
from data_gen.keychain.lengths import PartLengths
from data_gen.keychain.needle_solver import UnsoundNeedles, find_values
from data_gen.keychain.needles import KINDS, RetrievalOptions, needles
from data_gen.keychain.passage_pool import Haystack, PassageMeasure, build_haystack
from data_gen.keychain.prompt_composer import PromptComposeOptions, PromptComposer
from data_gen.keychain.retrieval import prove_needles
from data_gen.keychain.sentence_ends import sentence_ends
from data_gen.tokenizer import BUILTIN, load_tokenizer

pytestmark = pytest.mark.engine
FORMS = st.sampled_from(["words", "numbers", "uuids"])
KEYED = re.compile(r" One \w+ filed under ([\w-]+) is ([\w-]+)\.")


def boxed(values):
    return f"I looked for them.</think>\\boxed{{{', '.join(values)}}}"


def reward(response, values):
    return score("loongrl_retrieval", response, list(values)).value


@pytest.fixture
def compose(haystack, counter):
    """compose(kind, budget, seed, counting, **options) -> needles and their prompt, of another row each time."""

    def make(kind, budget=4096, seed=0, counting="auto", **options):
        options, lengths = RetrievalOptions(**options), PartLengths(counter)
        sample = lambda draw: needles(draw, kind, options, lengths).hidden  # noqa: E731
        composer = PromptComposer(
            haystack, counter, PromptComposeOptions(budget, counting=counting), None, (), seed, sample
        )
        assert composer.by_sums
        for row in itertools.count():
            needle = needles(random.Random(f"{seed} {row}"), kind, options, lengths)
            yield needle, composer.retrieval(f"{row}", needle.hidden)

    return make


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(KINDS),
    budget=st.integers(3000, 7000),
    number=st.integers(1, 24),
    key_form=FORMS,
    value_form=FORMS,
    seed=st.integers(0, 3),
)
def test_any_prompt(compose, counter, kind, budget, number, key_form, value_form, seed):
    options = {"keys": number, "values": number, "key_form": key_form, "value_form": value_form}
    options |= {"counting": "sums"}  # which are compared with the whole here
    needle, composed = next(compose(kind, budget, seed, **options))
    assert composed.tokens == counter.count([prompts.messages(composed.text)])[0]  # by tokenising the whole prompt
    assert 0.99 * budget <= composed.tokens <= budget
    prove_needles(composed, needle.values)
    assert len(needle.values) == (number if kind == "multi_value" else 1)
    assert (needle, composed) == next(compose(kind, budget, seed, **options))

    hidden = needle.hidden
    keys, values = zip(*KEYED.findall(composed.text), strict=True) if kind != "sentence" else ((), ())
    assert len(values) == len(set(values)) == (0 if kind == "sentence" else number)
    assert len(set(keys)) == (number if kind == "multi_key" else kind == "multi_value")
    if key_form == value_form:
        assert not set(keys) & set(values)
    without, places = composed.text, []
    for text in (link.text.decode() for link in hidden.links):  # in the order in which they stand
        places.append(without.index(text))
        without = without.replace(text, "", 1)
    assert places == sorted(places)
    assert set(places) <= set(sentence_ends(without))

    gold = needle.values
    assert reward(boxed(gold), gold) == reward(boxed(gold[::-1]), gold) == 1.0
    assert score("loongrl_retrieval", boxed(gold), list(gold), options=RewardOptions(retrieval="all")).value == 1.0
    for other in set(values) - set(gold):
        assert reward(boxed([other]), gold) == 0.0
        assert reward(boxed([*gold, other]), gold) < 1.0
    if len(gold) > 1:
        assert reward(boxed(gold[1:]), gold) < 1.0


def test_a_needle_is_anywhere_and_asked_for_at_random(compose):
    asked, thirds = set(), set()
    for needle, composed in itertools.islice(compose("multi_key"), 30):
        asked.add(needle.hidden.keys)
        thirds.add(3 * composed.text.index(needle.values[0]) // len(composed.text))
    assert len(asked) == 30
    assert thirds == {0, 1, 2}


@pytest.mark.parametrize(("statement", "question"), prompts.FACTS)
def test_every_fact_is_found_by_its_question(statement, question):
    one = {"key": "Ada Lovelace", "value": "brass kettle"}
    text = f"It rained. {statement.format(**one)} {statement.format(key='Bo Peep', value='tin can')} It stopped."
    task = prompts.needle_question(question.format(key="Ada Lovelace"), 2)
    assert find_values(f"{text}\n\n{task}") == ("brass kettle",)
    assert reward("It was there.</think>The \\boxed{the brass kettle}.", ["brass kettle"]) == 1.0


def prompt_with(*pairs, question="Which number is filed under a-b?", more=""):
    text = "Rain." + "".join(f" One number filed under {key} is {value}." for key, value in pairs)
    return f"{text}{more} Sun.\n\n{prompts.needle_question(question, len(pairs))}"


def test_a_sound_prompt_is_read():
    assert find_values(prompt_with(("a-b", 11), ("c", 12))) == ("11",)
    assert find_values(
        prompt_with(("a-b", 11), ("c", 12), ("a-b", 13), question="Which numbers are filed under a-b?")
    ) == (
        "11",
        "13",
    )


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (prompt_with(("c", 12)), r"no sentence answers 'Which number is filed under a-b\?'"),
        (prompt_with(("a-b", 11), ("a-b", 12)), "2 sentences answer .*, which asks for one: 11, 12"),
        (prompt_with(("a-b", 11), ("c", 11)), "'11', which answers .*, appears in the prompt more than once"),
        (prompt_with(("a-b", 11), more=" There were 11 of them."), "'11', which answers"),
        (prompt_with(("a-b", 11), question="What is it?"), r"no needle answers 'What is it\?'"),
        ("Nothing is asked.", "no needle answers"),
    ],
)
def test_an_unsound_prompt_is_refused(prompt, message):
    with pytest.raises(UnsoundNeedles, match=message):
        find_values(prompt)


@pytest.mark.parametrize("more", ["In 1911 it rained.", "It cost 11ct."])
def test_part_of_another_word_is_not_that_value(more):
    assert find_values(prompt_with(("a-b", 11), more=f" {more}")) == ("11",)


def test_passages_that_hold_a_key_or_a_value_are_left_out(tmp_path, tokenizer, counter, rows):
    words = [f"{a}-{n}" for a, n in itertools.product(module.ADJECTIVES[:24], module.NOUNS)]
    texts = [f"Text {n}\nIt is told. It was {'Nothing' if n % 2 else words[n // 2].title()}." for n in range(2000)]
    build_haystack(tmp_path / "h", texts, PassageMeasure(tokenizer.backend_tokenizer))
    lengths, options = PartLengths(counter), RetrievalOptions(value_form="words")
    composer = PromptComposer(Haystack(tmp_path / "h"), counter, PromptComposeOptions(8192), None, (), 0)
    for row in range(10):
        needle = needles(random.Random(row), "multi_key", options, lengths)
        composed = composer.retrieval(f"{row}", needle.hidden)
        prove_needles(composed, needle.values)
        assert all(
            composed.text.casefold().count(text) <= 2 for text in needle.hidden.alone
        )  # the key asked for, twice
        assert sum(composed.text.casefold().count(text) for text in needle.hidden.alone) == 41


def test_a_tokenizer_for_which_sums_are_wrong_is_counted_whole(rows, haystack, tmp_path):
    tokenizer = load_tokenizer(BUILTIN)
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}[assistant]"
    texts = [haystack.raw(number).decode() for number in range(len(haystack))]
    build_haystack(tmp_path / "h", texts, PassageMeasure(tokenizer.backend_tokenizer))
    counter, options = PromptCounter(tokenizer), RetrievalOptions()
    lengths = PartLengths(counter)
    sample = lambda draw: needles(draw, "multi_value", options, lengths).hidden  # noqa: E731
    composer = PromptComposer(Haystack(tmp_path / "h"), counter, PromptComposeOptions(4096), None, (), 0, sample)
    assert not composer.by_sums
    needle = needles(random.Random(0), "multi_value", options, lengths)
    composed = composer.retrieval("row", needle.hidden)
    assert composed.tokens == counter.count([prompts.messages(composed.text)])[0]
    assert 0.99 * 4096 <= composed.tokens <= 4096
    prove_needles(composed, needle.values)


def test_too_many_needles_are_refused(compose):
    with pytest.raises(ComposeError, match=r"the 300 needles of a prompt take \d+ of its 4096 tokens.*retrieval.keys"):
        next(compose("multi_key", keys=300))


def test_words_are_all_different():
    lists = (module.ADJECTIVES, module.NOUNS, module.FIRST_NAMES, module.LAST_NAMES)
    every = [word for words in lists for word in words]
    assert len(set(every)) == len(every)
    assert len(module.ADJECTIVES) * len(module.NOUNS) >= 2 * module.MOST


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"multi_key": -1}, "retrieval.multi_key = -1: expected a whole number of at least 0"),
        ({"sentence": 1.5}, "retrieval.sentence = 1.5: expected a whole number"),
        ({"keys": 0}, "retrieval.keys = 0: expected a whole number of at least 1"),
        (
            {"values": 1001},
            "retrieval.values = 1001: expected a whole number of at least 1 and at most 1000",
        ),
        ({"key_form": "names"}, "retrieval.key_form = 'names': expected one of words, numbers, uuids"),
    ],
)
def test_wrong_options(values, message):
    with pytest.raises(ValueError, match=message):
        RetrievalOptions.from_dict(values, "retrieval.")
