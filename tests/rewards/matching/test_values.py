"""Numbers, dates, units and money are compared by value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verl_longrl.rewards.matching import values
from verl_longrl.rewards.matching.values import spell_values

TABLE = [line for line in (values.__doc__ or "").splitlines() if "| `" in line]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE]
# fmt: off
ONES = [
    "", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# fmt: on
HAN = "零一二三四五六七八九"


def english(number: int) -> str:
    """The number in English words, by the rules of grammar and independently of what is tested."""
    for size, name in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" {english(number % size)}" if number % size else ""
            return f"{english(number // size)} {name}{rest}"
    return ONES[number] if number < 20 else f"{TENS[number // 10]}-{ONES[number % 10]}".strip("-")


def chinese(number: int) -> str:
    for size, name in ((10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十")):
        if number >= size:
            rest = number % size
            gap = "零" if rest and rest < size // 10 else ""
            return f"{chinese(number // size)}{name}{gap}{chinese(rest) if rest else ''}"
    return HAN[number]


@pytest.mark.parametrize(("written", "spelled"), ROWS)
def test_the_table_of_the_docstring(written, spelled):
    texts, expected = ([text.strip("`") for text in cell.split("`, `")] for cell in (written, spelled))
    assert [spell_values(text.lower()) for text in texts] == (expected * len(texts) if len(expected) == 1 else expected)


@given(st.integers(1, 10**12 - 1))
def test_english_numbers(number):
    assert spell_values(english(number)) == str(number)


@given(st.integers(1, 10**12 - 1))
def test_chinese_numbers(number):
    assert spell_values(chinese(number)) == str(number)


@given(st.dates())
def test_dates(date):
    month = f"{date:%B}".lower()
    written = [
        f"{date.day} {month} {date.year:04}",
        f"{month} {date.day}, {date.year:04}",
        f"{date:%Y-%m-%d}".rjust(10, "0"),
    ]
    assert {spell_values(text) for text in written} == {f"{date.year:04}y{date.month:02}m{date.day:02}d"}


@pytest.mark.parametrize(
    "text", ["万科", "千万", "192.168.0.1", "2.1.10", "3/4/1943", "she may go", "two-way", "1990年代", "xi jinping"]
)
def test_what_is_not_a_value_stays(text):
    assert spell_values(text) == text


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_it_reads_any_text(text):
    assert isinstance(spell_values(text.casefold()), str)
