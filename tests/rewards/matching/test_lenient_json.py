"""JSON as models write it: what is forgiven, what is refused, and that nothing is slow or evaluated."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verl_longrl.rewards.matching.lenient_json import MAX_LITERAL_CHARS, decode, find_values

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['a', \"it's\", 'say \"hi\"']", ["a", "it's", 'say "hi"']),
        ("[1, -2.5, 1e3,]", [1, -2.5, 1000.0]),
        ('{"a": null, "b": true, \'c\': None, "d": False,}', {"a": None, "b": True, "c": None, "d": False}),
        ("(1, 2)", [1, 2]),
        ("{1: 'a'}", {"1": "a"}),
        ("[\"\\/\", 'x']", ["\\/", "x"]),
    ],
)
def test_what_models_write(text, value):
    assert decode(text) == value


TOO_MUCH = ["[" * 5000 + "]" * 5000, "'" * (MAX_LITERAL_CHARS + 1), "9" * 5000 + "'"]
CODE = ["__import__('os')", "[x for x in [1]]", "1 + 1", "f'{1}'", "{**{}}", "[*[1]]", "b'a'", "{1}", "x.y"]


@pytest.mark.parametrize("text", ["", "[1", "[a]", *CODE, *TOO_MUCH])
def test_what_is_not_a_value(text):
    with pytest.raises(ValueError, match=r"not a value|neither JSON|not JSON"):
        decode(text)


@given(VALUES)
def test_against_json_and_python(value):
    assert decode(json.dumps(value)) == value
    assert decode(repr(value)) == value


def test_values_in_a_text():
    text = "so {'a': [1,]} and [see this], {\"b\": \"it's } here\"} or {'broken"
    assert list(find_values(text)) == [{"a": [1]}, {"b": "it's } here"}]


@pytest.mark.parametrize("piece", ["{'", "['a',", '["', "[-", "[{'a", "{'a':\\'", '{"a":', "[[", "['", "{'a': 1]"])
def test_no_text_is_slow(piece):
    started = time.perf_counter()
    assert list(find_values(piece * (300_000 // len(piece)))) in ([], [{"a": [1]}])
    assert time.perf_counter() - started < 10
