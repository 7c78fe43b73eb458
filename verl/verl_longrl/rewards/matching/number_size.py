r"""Estimate how many digits a number in LaTeX or plain text has, before a parser tries to compute it.

Only what digits alone say is found: (10^6)! and e^{e^{100}} are not.
"""

from __future__ import annotations

import math
import re

_RESIZED = re.compile(r"\\(?:left|right)(?![A-Za-z])")
_CLOSED, _OPENED = r"[\s})]{0,8}", r"[\s{(+-]{0,8}"
# A run of digits is read whole and once, so that the time is linear.
_POWER = re.compile(rf"(?<![0-9])[0-9]++(?:{_CLOSED}(?:\^|\*\*){_OPENED}[0-9]++)+")
_LINK = re.compile(rf"({_CLOSED})(?:\^|\*\*)({_OPENED})([0-9]++)")
_FACTORIAL = re.compile(rf"(?<![0-9])([0-9]++)((?:{_CLOSED}!)+)")
_LARGEST = 300
"""Decimal exponent of the largest number that is computed with."""


def has_more_digits(expression: str, digits: int) -> bool:
    """Whether an expression has a power or factorial of more than `digits` digits, of itself or of its reciprocal.

    >>> has_more_digits("9^9^9^9", 100_000), has_more_digits("2^{64} + 20!", 100_000), has_more_digits("5!!!!", 100_000)
    (True, False, True)
    """
    if not re.search(r"\^|\*\*|!", expression):
        return False
    text = _RESIZED.sub("", expression)
    return any(_digits_of_power(power[0]) > digits for power in _POWER.finditer(text)) or any(
        _digits_of_factorial(number, signs.count("!")) > digits for number, signs in _FACTORIAL.findall(text)
    )


def _digits_of_power(power: str) -> float:
    """The digits of a^b^c, which is a^(b^c), and of (a^b)^c, which is a^(b c)."""
    links = _LINK.findall(power)
    exponent, closed_after = 1.0, ""
    for closed, opened, number in reversed(links):
        left = len(re.findall(r"[})]", closed_after)) >= max(1, len(re.findall(r"[{(]", opened)))
        size = math.log10(max(1.0, _number(number)))
        exponent = 10 ** min(size + math.log10(exponent) if left else size * exponent, _LARGEST)
        closed_after = closed
    return exponent * math.log10(max(1.0, _number(power)))


def _digits_of_factorial(number: str, times: int) -> float:
    value, digits = _number(number), 0.0
    for _ in range(min(times, 9)):
        digits = math.lgamma(value + 1) / math.log(10)
        value = 10 ** min(digits, _LARGEST)
    return digits


def _number(text: str) -> float:
    """The number that a text begins with."""
    return float(re.match(r"[0-9]{1,300}", text)[0])  # type: ignore[index]
