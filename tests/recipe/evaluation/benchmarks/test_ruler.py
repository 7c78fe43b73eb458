"""RULER's rows from the real sources: equal to the released generator's, and repaired."""

import hashlib
import re
import statistics

import pytest
from support import tiny_bpe
from support.eval_wheels import require_wheels

from data_gen.tokenizer import BUILTIN, load_tokenizer
from recipe.longrl.evaluation import sources
from recipe.longrl.evaluation.benchmarks.registry import REGISTRY
from recipe.longrl.evaluation.benchmarks.ruler import MAX_TOKENS, QUESTION_TASKS, TASKS, ruler_rows
from recipe.longrl.evaluation.benchmarks.ruler_tasks import pools
from recipe.longrl.evaluation.benchmarks.ruler_tasks.common_words import OfficialCommonWords, RepairedCommonWords
from recipe.longrl.evaluation.benchmarks.ruler_tasks.token_sums import TokenSums
from recipe.longrl.evaluation.records import NO_DOCUMENT

RELEASED = {
    "vt/1024": "bfa4fb056c8704fb",
    "cwe/1024": "f9af063c8e9a9ad9",
    "fwe/1024": "ad02749ea2ce5a47",
    "niah_multikey_2/1024": "a6582a64933430ba",
    "niah_multivalue/1024": "e8a08690ade5d8fe",
    "niah_single_1/4096": "67deb812b6fe2338",
    "niah_single_2/4096": "5f7117846d79848e",
    "niah_single_3/4096": "bee5a48b76054f17",
    "niah_multikey_1/4096": "7d15ea431f5fbb7b",
    "niah_multikey_2/4096": "be18b5224e67bc36",
    "niah_multikey_3/4096": "33de17215ad4912b",
    "niah_multivalue/4096": "771cc369a9c5beff",
    "niah_multiquery/4096": "363cf58fbb2fef8f",
    "vt/4096": "3aea02a5cc8b1f79",
    "cwe/4096": "b36fd6204c73bf8c",
    "fwe/4096": "f2ce69ee21d22ae9",
    "qa_1/4096": "028eb121794e8819",
    "qa_2/4096": "32b5ab824c0ec462",
}
"""Hashes of the first three prompts and golds that the released generator makes with the tokenizer of the package
wordllama; `python scripts/bench/ruler.py` compares them in full."""


@pytest.fixture(scope="module", autouse=True)
def _data():
    require_wheels(sources.LONG_CONTEXT_EVAL, sources.WONDERWORDS, sources.SENTENCE_MODEL)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BUILTIN)


def make_rows(tokenizer, task, length, samples=3, sampler="official", **options):
    return list(
        ruler_rows(tokenizer=tokenizer, lengths=[length], samples=samples, tasks=[task], sampler=sampler, **options)
    )


def prompt(row):
    return row.messages[0]["content"] + row.answer_prefix


@pytest.mark.parametrize("cell", RELEASED)
def test_rows_equal_the_released_generator(tokenizer, cell):
    task, length = cell.split("/")
    rows = make_rows(tokenizer, task, int(length))
    text = "\0".join(part for row in rows for part in (prompt(row), *row.gold))
    assert hashlib.blake2b(text.encode(), digest_size=8).hexdigest() == RELEASED[cell]


def test_questions_have_a_closed_book_and_retrieval_has_none(tokenizer):
    for task in ("qa_1", "qa_2", "niah_single_2", "vt"):
        (row,) = make_rows(tokenizer, task, 4096, samples=1)
        if task not in QUESTION_TASKS:
            assert row.closed_book == ()
            continue
        closed, asked = row.closed_book[0]["content"], row.messages[0]["content"]
        before, after = closed.split(NO_DOCUMENT)
        assert asked.startswith(before)
        assert asked.endswith(after)
        assert "Document" not in closed


@pytest.mark.parametrize("sampler", ["official", "repaired"])
@pytest.mark.parametrize("task", TASKS)
def test_rows_fill_their_length_and_gold_answers_are_right(tokenizer, task, sampler):
    rows = make_rows(tokenizer, task, 4096, sampler=sampler)
    sums, rules = TokenSums(tokenizer), REGISTRY["ruler"].rules
    for row in rows:
        tokens = sums.count_text(prompt(row))
        # The released fwe leaves no room for the answer.
        limit = 4096 if (task, sampler) == ("fwe", "official") else 4096 - MAX_TOKENS[task]
        assert limit / 2 < tokens <= limit
        # The released vt counts its example before the names in it are drawn anew.
        assert row.meta["tokens"] == tokens or (task, sampler) == ("vt", "official")
        answer = row.gold[0] if task in QUESTION_TASKS else ", ".join(row.gold)
        for rule in rules.values():
            assert rule(answer, row).score == 1.0
            assert rule("", row).score == 0.0
        assert row.position is None or 0 <= row.position <= 1
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.parametrize("task", TASKS)
def test_repaired_rows_fit_short_lengths_and_do_not_depend_on_their_number(task):
    own = tiny_bpe.build([" ".join(pools.list_words()[:3000])], 2000)
    rows = make_rows(own, task, 2048, samples=4, sampler="repaired")
    assert make_rows(own, task, 2048, samples=2, sampler="repaired") == rows[:2]
    assert make_rows(own, task, 2048, samples=2, sampler="repaired", seed=7) != rows[:2]
    for row in rows:
        assert TokenSums(own).count_text(prompt(row)) <= 2048 - MAX_TOKENS[task]


@pytest.mark.parametrize("task", ["niah_single_2", "niah_multikey_2", "niah_multikey_3", "vt", "qa_1", "qa_2"])
def test_repaired_gold_information_is_anywhere(tokenizer, task):
    positions = [row.position for row in make_rows(tokenizer, task, 4096, 40, "repaired")]
    assert len(set(positions)) > 15
    assert 0.3 < statistics.mean(positions) < 0.7
    if task != "vt":
        # vt's is the mean of five places.
        assert min(positions) < 0.2
        assert max(positions) > 0.8


def test_repaired_keys_and_values_are_distinct(tokenizer):
    for task in ("niah_multikey_1", "niah_multikey_2", "niah_multikey_3", "niah_multiquery", "niah_multivalue"):
        for row in make_rows(tokenizer, task, 4096, 3, "repaired"):
            facts = re.findall(r"special magic \w+ for (\S+) is: (\S+)\.", row.messages[0]["content"])
            values = [value for _, value in facts]
            assert len(set(values)) == len(values)
            keys = {key for key, _ in facts}
            assert len(keys) == (1 if task == "niah_multivalue" else len(facts))


def test_a_common_word_of_repaired_cwe_is_part_of_no_other_word(tokenizer):
    for row in make_rows(tokenizer, "cwe", 8192, 3, "repaired"):
        words = set(re.findall(r"\d+\. ([^\d]+?)(?= \d+\.|\n|$)", row.messages[0]["content"].split("list?")[-2]))
        for common in row.gold:
            assert sum(common.lower() in word.lower() for word in words) == 1


def test_the_words_of_fwe_have_a_strict_order(tokenizer):
    for row in make_rows(tokenizer, "fwe", 2048, 5, "repaired"):
        words = row.messages[0]["content"].split("coded words. ")[1].split("\n")[0].split(" ")
        ranked = sorted({word: words.count(word) for word in set(words) - {"..."}}.items(), key=lambda item: -item[1])
        assert [word for word, _ in ranked[:3]] == row.gold
        counts = [count for _, count in ranked[:4]]
        assert counts == sorted(set(counts), reverse=True)


@pytest.mark.parametrize(("make", "how"), [(OfficialCommonWords, 42), (RepairedCommonWords, "name")])
def test_a_list_longer_than_the_dictionary_has_made_words(make, how):
    assert not set(pools.made_words()) & set(pools.list_words())
    draft = make(1 << 20, how).draw(9000, 0)
    page = draft.render()
    assert page.meta == {"made_words": True}
    assert len(set(draft.gold)) == 10
    # 10 common words 30 times and the others 3 times, two pieces each.
    assert len(page.pieces) == 2 * (10 * 30 + 8990 * 3)


def test_an_essay_longer_than_the_essays_is_repeated():
    words = pools.essays().distinct_words
    assert words > 525_000
    twice = pools.essays().sentences(words + 2000)
    assert " ".join(twice[-100:]).endswith(" ".join(pools.essays()._once[1990:2000]))


def test_the_first_hundred_official_questions_are_nearly_all_about_one_article(tokenizer):
    questions = pools.squad().questions
    assert len(questions) == 5928
    assert sum(question.article == questions[0].article for question in questions[:100]) == 96
    repaired = make_rows(tokenizer, "qa_1", 2048, 35, "repaired")
    assert len({row.cluster for row in repaired}) == 35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["qa_3"]}, "tasks = qa_3: unknown. Fix: use some of niah_single_1"),
        ({"tasks": ["qa_1"], "samples": 6000}, "samples = 6000: qa_1 has 5928 questions. Fix: use at most 5928"),
        ({"sampler": "mine"}, "sampler = mine: unknown. Fix: use one of official, repaired"),
        ({"lengths": [100]}, "lengths = 100: expected integers of at least 512. Fix: use 4096"),
        ({"lengths": [1024], "tasks": ["qa_1"]}, "lengths = 1024: qa_1: .* sampler=repaired, whose steps are finer"),
        (
            {"lengths": [512], "tasks": ["cwe"], "sampler": "repaired"},
            "lengths = 512: cwe: .* Fix: use greater lengths$",
        ),
    ],
)
def test_wrong_options_are_named(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        next(ruler_rows(tokenizer=tokenizer, **options))


def test_rows_are_made_one_at_a_time(tokenizer):
    rows = ruler_rows(tokenizer=tokenizer, lengths=[4096], samples=5000, tasks=["niah_multikey_2"])
    assert next(rows).id == "niah_multikey_2/4096/0"
    assert next(rows).id == "niah_multikey_2/4096/1"
