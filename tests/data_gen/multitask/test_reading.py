"""Passages, words, years and sentences: what code says about a text is what anybody would say."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import synthetic_books

from data_gen.multitask.passages import is_english, looks_like_prompt, passage_spans
from data_gen.multitask.prompt_window import Windows
from data_gen.multitask.quotable_sentences import sentence_runs
from data_gen.multitask.terms import find_terms, find_years
from data_gen.multitask.visible_text import VisibleText

TEXTS = st.text(alphabet="ab .!\n\t\u00a0Z", max_size=400) | st.text(max_size=200)


@given(text=TEXTS, length=st.integers(1, 20))
def test_passages_hold_the_whole_text_in_order(text, length):
    found = passage_spans(text, length)
    assert "".join("".join(text[a:b].split()) for a, b in found) == "".join(text.split())
    for (_, end), (start, _) in itertools.pairwise(found):
        assert end <= start
        assert not text[end:start].strip()
    for a, b in found:
        assert text[a:b] == text[a:b].strip() != ""
        assert len(text[a:b].split()) >= length or len(found) == 1


def test_passages_of_prose_are_alike_in_length():
    text = synthetic_books.document(0, 60)
    lengths = [len(text[a:b].split()) for a, b in passage_spans(text, 40)]
    assert min(lengths) >= 40
    assert max(lengths) <= 40 + 3 * 40 + 40
    one_line = " ".join(text.split())
    assert max(len(one_line[a:b].split()) for a, b in passage_spans(one_line, 40)) <= 120


def test_headings_join_what_follows():
    text = "One two three four.\n\nHEADING\n\nFive six seven eight."
    assert [text[a:b] for a, b in passage_spans(text, 4)] == ["One two three four.", "HEADING\n\nFive six seven eight."]


@pytest.mark.parametrize(
    ("text", "english"),
    [
        (synthetic_books.document(0), True),
        ("Der Rat der Stadt hat im Jahr das alte Tor und die Mühle an den Sohn des Müllers verkauft. " * 20, False),
        ("Le conseil de la ville a vendu la vieille porte et le moulin au fils du meunier. " * 20, False),
        ("市议会把旧城门和磨坊卖给了磨坊主的儿子。" * 20, False),
        ("x = f(y)\nreturn x\n" * 50, False),
        ("", False),
    ],
)
def test_english_is_told_from_other_languages(text, english):
    assert is_english(text) == english


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("He read.\n\nPassage 12:\nand so on", True),
        ("  passage  3 :", True),
        ("Over.\n\n(The text ends here.)\n\nNow", True),
        ("The passage 3: a way", False),
        ("A passage of 3: two", False),
    ],
)
def test_what_looks_like_the_prompt_is_seen(text, looks):
    assert looks_like_prompt(text) == looks


@pytest.mark.parametrize(
    ("passages", "counts"),
    [
        (["Arden met arden", "ARDEN's house"], {"arden": {1: 2, 2: 1}}),
        (["Arden, Arden", "the Ardens"], {}),  # is one of the Ardens meant?
        (["lamps lamps", "a lamp"], {}),
        (["lamps lamps"], {"lamps": {1: 2}}),
        (["stories stories", "story"], {}),
        (["story story", "stories"], {}),
        (["boatman boatman", "boatmen"], {}),
        (["known known", "well-known"], {}),
        (["known known", "known_as"], {}),
        (["_known_ known"], {"known": {1: 2}}),
        (["harbour har- bour harbour"], {}),
        (["cafe\u0301 caf cafe cafe"], {}),
        (["Harbour harbour", "harbour"], {"harbour": {1: 2, 2: 1}}),
        (["which which", "passage passage", "ab1c ab1c", "it it", "once1"], {}),
        (["only1 alone"], {}),
    ],
)
def test_a_word_is_taken_where_all_ways_to_count_it_agree(passages, counts):
    shown = VisibleText(passages)
    assert {term.word: term.counts for term in shown.terms} == counts


def test_names_are_told_from_words():
    terms = {
        term.word: term.is_name for term in find_terms(["With Arden, the harbour. Harbour of Arden", "Indeed Indeed"])
    }
    assert terms == {"Arden": True, "harbour": False}


@pytest.mark.parametrize(
    ("passages", "years"),
    [
        (["In 1812, and 1999.", "(1812)", "nothing"], {1812: [1, 2], 1999: [1]}),
        (["From 1812–1815"], {1812: [1], 1815: [1]}),
        (["In 1812 and 17, 31845, 0999, 2100"], {1812: [1]}),
        (["In 1812", "the 1840s"], {}),
        (["In 1812", "1848-49"], {}),
        (["In 1812", "v1.2014"], {}),
        (["In 1812", "1999.5"], {}),
        (["In 1812", "$1999"], {}),
        ([], {}),
    ],
)
def test_years_are_known_where_all_numbers_are_clear(passages, years):
    assert find_years(passages) == years


@pytest.mark.parametrize(
    ("passage", "runs"),
    [
        (
            "The clerk saw the bridge and the mill. Nobody else had seen them for years. He said so.",
            [["The clerk saw the bridge and the mill.", "Nobody else had seen them for years."]],
        ),
        ("The clerk met Mr. Selwyn at the old mill.", []),
        ("CHAPTER 2\nThe clerk saw the bridge and the mill.", [["The clerk saw the bridge and the mill."]]),
        (
            "The clerk, who had come from the north that morning,\nsaw the bridge. and nobody else did so.",
            [],
        ),
        (
            "The clerk, who had come from the north that morning,\nsaw the bridge and left.",
            [["The clerk, who had come from the north that morning, saw the bridge and left."]],
        ),
        ('He said "I saw the bridge there. You did not see it there."', []),
        ("a small letter at the very beginning here.", []),
        ("No full stop at the end of it here", []),
    ],
)
def test_sentences_that_could_end_elsewhere_are_not_quoted(passage, runs):
    assert list(sentence_runs(passage)) == runs


@given(
    tokens=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    room=st.integers(-3, 60),
    seed=st.integers(0, 99),
)
def test_windows_fit_and_hold_as_much_as_fits(tokens, room, seed):
    start, end = Windows(tokens).draw(room, random.Random(seed))
    assert 0 <= start <= end <= len(tokens)
    if start == end:
        assert min(tokens) > room or tokens[start : start + 1] > [room] or start == len(tokens)
        return
    assert sum(tokens[start:end]) <= room
    assert end == len(tokens) or sum(tokens[start : end + 1]) > room
    if sum(tokens) <= room:
        assert (start, end) == (0, len(tokens))
