"""How many digits powers and factorials have, by what is written."""

import math

import pytest
from verl_longrl.rewards.matching.number_size import has_more_digits


def limits(expression):
    """Whether the expression has more than 10, 100, 1,000, ... 10^9 digits."""
    return [has_more_digits(expression, 10**n) for n in range(1, 10)]


@pytest.mark.parametrize(
    "expression",
    ["2^{64}", "7**9999", "10^{-4000}", "20!", "300!", "5!!", "(5!)!", "2^{3^{4}}", "(2^{10})^{30}", "{(2)}^{5000}"],
)
def test_the_digits_are_those_of_the_number(expression):
    values = {
        "2^{64}": 2**64, "7**9999": 7**9999, "10^{-4000}": 10**4000, "20!": math.factorial(20),
        "300!": math.factorial(300), "5!!": math.factorial(120), "(5!)!": math.factorial(120), "2^{3^{4}}": 2**81,
        "(2^{10})^{30}": 2**300, "{(2)}^{5000}": 2**5000,
    }  # fmt: skip
    digits = math.log10(values[expression])
    assert limits(expression) == [digits > 10**n for n in range(1, 10)]


@pytest.mark.parametrize(
    "expression",
    [
        "9^9^9^9",
        "10^{10^{10}}",
        "1+\\left(2^{10^{10^{10}}}\\right)",
        "(2^{10})^{10^{10^{10}}}",
        "2^{(10)^{(10)^{10}}}",
        "9 ** 9 ** 9 ** 9",
        "5!!!!",
        "((5!)!)!",
        "9" * 5000 + "!",
        "9" * 5000 + "^" + "9" * 5000,
        "2^{-10^{10}}",
    ],
)
def test_numbers_that_no_machine_computes(expression):
    assert all(limits(expression))


@pytest.mark.parametrize(
    "expression", ["", "n!", "x^{n^2}", "1^{999999999}", "0^{999999999}", "2^{0}", "10^{-9}", "90^\\circ", "Paris!"]
)
def test_small_numbers_and_texts(expression):
    assert not any(limits(expression))
