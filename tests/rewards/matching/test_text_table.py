"""Tables written as text: Markdown and separated values, the last one, and no other text."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verl_longrl.rewards.matching.text_table import read_markdown, read_separated

CELLS = st.text(alphabet="ab ,;\"'1", min_size=1, max_size=5).map(str.strip).filter(bool)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=2, max_size=5)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("| a | b |\n|---|:-:|\n| 1 | 2 |", (["a", "b"], [["1", "2"]])),
        ("a | b\n--- | ---\n1 | 2", (["a", "b"], [["1", "2"]])),
        ("| 1 | 2 |\n| 3 | 4 |", (None, [["1", "2"], ["3", "4"]])),
        ("| a |\n|---|\n| 1 |\n\nor\n\n| b |\n|---|\n| 2 |", (["b"], [["2"]])),
        ("| a\\|b | |\n|---|---|\n| 1 | |", (["a|b", ""], [["1", ""]])),
        ("no table", None),
        ("P(a | b) is 1\nP(b | a) is 2", None),
        ("| a |", None),
    ],
)
def test_markdown(text, table):
    assert read_markdown(text) == table


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("name,total\nAnn,1", (["name", "total"], [["Ann", "1"]])),
        ("Ann,1\nBob,2", (None, [["Ann", "1"], ["Bob", "2"]])),
        ("name;city\nAnn;Rome", (None, [["name", "city"], ["Ann", "Rome"]])),
        ("a\tb\n1,5\t2", (["a", "b"], [["1,5", "2"]])),
        ("a,b\n1,2\n\nthen\n\nc,d\n3,4", (["c", "d"], [["3", "4"]])),
        ("Well, here it is:\na,b,c\n1,2,3\nIt is done, I think.", (["a", "b", "c"], [["1", "2", "3"]])),
        ("name,total\r\nAnn,1", (["name", "total"], [["Ann", "1"]])),
        ("name,total\rAnn,1", (["name", "total"], [["Ann", "1"]])),
        (";\r0", None),
        pytest.param('a,"b\n' + "x,y\n" * 100_000, None, id="an open quotation mark"),
        ("Ann, Bob", None),
        ("Ann\nBob", None),
    ],
)
def test_separated_values(text, table):
    assert read_separated(text) == table


@given(ROWS)
def test_against_pythons_csv(rows):
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    names, body = read_separated(text.getvalue())
    assert ([names] if names else []) + body == rows
