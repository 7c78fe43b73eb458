"""Entries of a list in any layout: the table of the docstring's cases, and that dropping a line never pays."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verl_longrl.rewards import score
from verl_longrl.rewards.matching.list_layout import list_entries


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("Here they are:\na\nb", ["a", "b"]),
        ("a\nb\nThese are all items.", ["a", "b"]),
        ("I found these.\na\nb\nLet me know!\nThere are no others.", ["a", "b"]),
        ("It is a.\nIt is b.", ["It is a.", "It is b."]),
        ("a\nThis is b.\nc", ["a", "This is b.", "c"]),
        ("The red house", ["The red house"]),
        ("x, y and z", ["x", "y", "z"]),
        ("x, y, and z.", ["x", "y", "z"]),
        ("x, y; z, w", ["x, y", "z, w"]),
        ("f(x, y), g(z)", ["f(x, y)", "g(z)"]),
        ('"Smith, Ann", "Doe, Joe"', ['"Smith, Ann"', '"Doe, Joe"']),
        ("1,000, 2,000", ["1,000", "2,000"]),
        ("x -> y -> z", ["x", "y", "z"]),
        ("The order is: x, y", ["x", "y"]),
        ("x or y", ["x or y"]),
        ('["x", "y"]', ["x", "y"]),
        ("{'items': ['x', 'y',]}", ["x", "y"]),
        ("[1]", ["[1]"]),
        ("| # | item |\n|---|---|\n| 1 | x |\n| 2 | y |", ["x", "y"]),
        ("| x | y |", ["x", "y"]),
        ("# Items\n- x\n- y", ["- x", "- y"]),
        ("# x\n# y", ["x", "y"]),
        ("<list>\nx\n...\n</list>", ["x"]),
        ("x\ny\nTotal: 2", ["x", "y"]),
    ],
)
def test_entries(text, entries):
    assert list_entries(text.split("\n"), lambda _: False) == entries


def test_an_item_that_was_asked_for_is_not_split():
    assert list_entries(["Smith, John"], lambda text: text == "Smith, John") == ["Smith, John"]
    assert list_entries(["Hamlet, Romeo and Juliet"], "Romeo and Juliet".__eq__) == ["Hamlet", "Romeo and Juliet"]


def test_sentences_that_were_asked_for_are_not_dropped():
    lines = ["It was late.", "She left", "I am sure."]
    assert list_entries(lines, lambda _: False, sentences=True) == lines
    assert score("golongrl_exhaustive", "[Answer]\nIt was late.\nShe left", ["It was late.", "She left."]).value == 1


FRAMES = ["It is {}.", "{}:", "These are {}!", "# {}", "Note: {}", "There is {}, I hope."]


@settings(deadline=None)
@given(st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=4), st.lists(st.sampled_from(FRAMES), max_size=4))
def test_guesses_around_the_list_never_pay(items, frames):
    plain = score("golongrl_exhaustive", "[Answer]\n" + "\n".join(items), ["u", "v"]).value
    for guess in ("u", "v"):
        framed = [*items, *(frame.format(guess) for frame in frames)]
        assert score("golongrl_exhaustive", "[Answer]\n" + "\n".join(framed), ["u", "v"]).value <= plain
