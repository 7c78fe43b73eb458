r"""Spell numbers, dates, units and money in one way, so that they are compared by value and not by spelling.

| written | spelled |
|---|---|
| `twelve`, `十二` | `12` |
| `5 million`, `five million`, `500万` | `5000000` |
| `second`, `2nd`, `twenty-first` | `2nd`, `2nd`, `21st` |
| `minus 5`, `negative 5` | `-5` |
| `14 April 1943`, `April 14th, 1943`, `1943-04-14`, `1943年4月14日` | `1943y04m14d` |
| `April 1943` | `1943y04m` |
| `April 14` | `04m14d` |
| `12 kilometres`, `12km` | `12 km`, `12km` |
| `5 dollars` | `$5` |
| `5e6`, `5 × 10^6` | `5000000` |
| `world war ii` | `world war 2` |

3/4/1943 keeps its order, since it depends on the country; 14/4/1943 can only be April. Fractions in words and years in
pairs (nineteen forty-three) are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

# fmt: off
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16,
    "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30, "fortieth": 40,
    "fiftieth": 50, "sixtieth": 60, "seventieth": 70, "eightieth": 80, "ninetieth": 90,
}
# fmt: on
_CARDINALS = {
    "zero": 0,
    **dict(zip(_ONES, range(1, 10), strict=True)),
    **dict(zip(_TEENS, range(10, 20), strict=True)),
    **dict(zip(_TENS, range(20, 100, 10), strict=True)),
}
_MAGNITUDES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "mn": 10**6,
    "billion": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
}
_HAN_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_TENS = {"十": 10, "百": 100, "千": 1000}
_HAN_MAGNITUDES = {"万": 10**4, "亿": 10**8}

_MONTHS = (
    "jan(?:uary)?",
    "feb(?:ruary)?",
    "mar(?:ch)?",
    "apr(?:il)?",
    "may",
    "june?",
    "july?",
    "aug(?:ust)?",
    "sep(?:t(?:ember)?)?",
    "oct(?:ober)?",
    "nov(?:ember)?",
    "dec(?:ember)?",
)
_UNITS = {
    "c": "(?:°\\s?|degrees?\\s)(?:c|celsius|centigrade)|摄氏度",
    "f": "(?:°\\s?|degrees?\\s)(?:f|fahrenheit)|华氏度",
    "km": "kilomet(?:er|re)s?|公里|千米",
    "cm": "centimet(?:er|re)s?|厘米",
    "mm": "millimet(?:er|re)s?|毫米",
    "m": "met(?:er|re)s?|米",
    "mi": "miles?|英里",
    "ft": "feet|foot",
    "kg": "kilogram(?:me)?s?|kilos?|公斤|千克",
    "mg": "milligram(?:me)?s?",
    "g": "gram(?:me)?s?",
    "t": "tonnes?",
    "l": "lit(?:er|re)s?",
    "h": "hours?|hrs?",
    "min": "minutes?|mins?",
    "s": "seconds?|secs?",
    "kw": "kilowatts?",
    "mw": "megawatts?",
    "ghz": "gigahertz",
    "mhz": "megahertz",
    "gb": "gigabytes?",
    "mb": "megabytes?",
}
_CURRENCIES = {
    "$": "(?:us )?dollars?|usd|美元",
    "€": "euros?|eur|欧元",
    "£": "pounds? sterling|pounds?|gbp|英镑",
    "¥": "yuan|rmb|cny|元(?:人民币)?",
}


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_BELOW_100 = rf"(?:(?:{_any(_TENS)})(?:[\s-](?:{_any(_ONES)}))?|{_any([*_TEENS, *_ONES, 'zero'])})"
_BELOW_1000 = rf"(?:{_BELOW_100}\shundred(?:\s(?:and\s)?{_BELOW_100})?|{_BELOW_100})"
_LARGE = r"(?:thousand|million|billion|trillion)"
_NUMBER_WORDS = re.compile(
    rf"\b(?:(?:{_BELOW_1000}\s{_LARGE},?\s(?:and\s)?){{0,4}}{_BELOW_1000}(?:\s(?:{_LARGE}|dozen))?)\b(?!-\w)"
)
_ORDINAL_WORDS = re.compile(rf"\b(?:(?P<tens>{_any(_TENS)})[\s-])?(?P<last>{_any(_ORDINALS)})\b")
_SCALED = re.compile(
    rf"(?P<digits>(?<![a-z0-9_.,])[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,6}}(?:\.[0-9]{{1,15}})?|(?<![a-z0-9_.,])[0-9]{{1,15}}(?:\.[0-9]{{1,15}})?)"
    rf"[\s-]?(?P<magnitude>{_any(_MAGNITUDES)})\b"
)
_A_MAGNITUDE = re.compile(r"\b(?:a|an)\s(?=(?:dozen|hundred|thousand|million|billion|trillion)\b)")
_HAN_NUMBER = re.compile(
    r"(?:(?<![a-z0-9_.])[0-9]{1,15}(?:\.[0-9]{1,15})?[万亿]{1,2}|[零〇一二两三四五六七八九十百千万亿]{1,30})"
)
_HAN_YEAR = re.compile(r"([〇零一二三四五六七八九]{4})(?=年)")
_NEGATIVE = re.compile(r"\b(?:minus|negative)\s(?=\.?[0-9])|负(?=[0-9])")
_SCIENTIFIC = re.compile(
    r"(?<![a-z0-9_.,])([0-9]{1,15}(?:\.[0-9]{1,15})?)(?:e|\s?[×x*]\s?10\^)\{?([+-]?[0-9]{1,2})\}?(?![a-z0-9_])"
)
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}
# Behind a name only: a member of a list, as in "Paris and II", is the same text wherever it stands.
_ROMAN_NUMERAL = re.compile(rf"(?<=[a-z]\s)(?<!\band\s)(?<!\bor\s)(?:{'|'.join(_ROMAN)})\b")
_FULL_HOUR = re.compile(r"\b([0-9]{1,2}):00(?=\s?[ap]m\b)")
_ERA = re.compile(r"(?<=[0-9])\s(?:ad|ce)\b|\b(?:ad|ce)\s(?=[0-9])")
_WEEKDAY = re.compile(r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s(?=(?:[0-9]{4}y)?[0-9]{2}m)")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_DAY = r"(?P<day>0?[1-9]|[12][0-9]|3[01])(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[0-9]{4})"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{_DAY}[\s-](?:of\s)?{_MONTH}\b(?:[,.]{{0,2}}[\s-]{_YEAR}\b)?",
        rf"\b{_MONTH}\b\.?\s(?:the\s)?{_DAY}\b(?:,?\s{_YEAR}\b)?(?![0-9:/])",
        rf"\b{_MONTH}\b[,.]?\s(?:of\s)?{_YEAR}\b",
        r"(?<![\w-])(?P<year>[0-9]{4})[-/.](?P<month>0?[1-9]|1[0-2])[-/.](?P<day>0?[1-9]|[12][0-9]|3[01])(?![\w-]|\.[0-9])",
        r"(?<![\w-])(?P<day>1[3-9]|2[0-9]|3[01])[-/.](?P<month>0?[1-9]|1[0-2])[-/.](?P<year>[0-9]{4})(?![\w-]|\.[0-9])",
        r"(?<![\w-])(?P<month>0?[1-9]|1[0-2])[-/.](?P<day>1[3-9]|2[0-9]|3[01])[-/.](?P<year>[0-9]{4})(?![\w-]|\.[0-9])",
        r"(?<![0-9])(?:(?P<year>[0-9]{4})\s?年\s?)?(?P<month>1[0-2]|0?[1-9])\s?月(?:\s?(?P<day>[12][0-9]|3[01]|0?[1-9])\s?[日号])",
        r"(?<![0-9])(?P<year>[0-9]{4})\s?年\s?(?P<month>1[0-2]|0?[1-9])\s?月(?:份)?",
    )
)
# 1943年 is the year 1943, but 1943年代 the decade; what follows the sign stays, so "1943年前" is not 1943.
_HAN_YEAR_SIGN = re.compile(r"(?<![0-9])([0-9]{3,4})\s?年(?!代)")
_UNIT_WORDS = re.compile(
    rf"(?<=[0-9])[\s-]?(?:(?P<power>square|cubic)\s|(?P<han_power>平方|立方))?"
    rf"(?:{'|'.join(f'(?P<{symbol}>(?:{words}))' for symbol, words in _UNITS.items())})(?![a-z])"
)
_MONEY = tuple(
    (re.compile(rf"(?<![a-z0-9_.,])(?P<amount>[0-9][0-9,.]{{0,30}})\s?(?:{words})(?![a-z])"), sign)
    for sign, words in _CURRENCIES.items()
)
_SHORT_MONEY = re.compile(r"(?<=[$€£¥])\s?([0-9]{1,15}(?:\.[0-9]{1,15})?)\s?(k|m|b)\b")


def spell_values(text: str) -> str:
    """`text`, folded to one case, with numbers, dates, units and money spelled in one way.

    >>> spell_values("on april 14, 1943 they paid twelve million dollars for 5 kilometres")
    'on 1943y04m14d they paid $12000000 for 5 km'
    """
    text = _HAN_YEAR.sub(lambda match: "".join(str(_HAN_DIGITS[digit]) for digit in match[1]), text)
    text = _HAN_NUMBER.sub(_spell_han_number, text)
    text = _A_MAGNITUDE.sub("one ", text)
    text = _ORDINAL_WORDS.sub(_spell_ordinal, text)
    text = _NUMBER_WORDS.sub(_spell_number, text)
    text = _SHORT_MONEY.sub(
        lambda match: _plain(Decimal(match[1]) * {"k": 10**3, "m": 10**6, "b": 10**9}[match[2]]), text
    )
    text = _SCALED.sub(
        lambda match: _plain(Decimal(match["digits"].replace(",", "")) * _MAGNITUDES[match["magnitude"]]), text
    )
    text = _NEGATIVE.sub("-", text)
    text = _ERA.sub("", _FULL_HOUR.sub(r"\1", text))
    text = _ROMAN_NUMERAL.sub(lambda match: _ROMAN[match[0]], text)
    text = _SCIENTIFIC.sub(lambda match: _plain(Decimal(match[1]).scaleb(int(match[2]))), text)
    for pattern in _DATES:
        text = pattern.sub(_spell_date, text)
    text = _WEEKDAY.sub("", text)
    text = _HAN_YEAR_SIGN.sub(r"\1 ", text)
    text = _UNIT_WORDS.sub(_spell_unit, text)
    for pattern, sign in _MONEY:
        text = pattern.sub(rf"{sign}\g<amount>", text)
    return text


def _plain(number: Decimal) -> str:
    """A number without exponent and without zeros after the decimal point.

    >>> _plain(Decimal("5.50E+6"))
    '5500000'
    """
    digits = f"{number:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _spell_number(match: re.Match[str]) -> str:
    total = group = 0
    for word in re.findall(r"[a-z]+", match[0]):
        if word in _CARDINALS:
            group += _CARDINALS[word]
        elif word in ("hundred", "dozen"):
            group *= _MAGNITUDES[word]
        elif word != "and":
            total, group = total + group * _MAGNITUDES[word], 0
    return str(total + group)


def _spell_ordinal(match: re.Match[str]) -> str:
    value = _CARDINALS.get(match["tens"] or "zero", 0) + _ORDINALS[match["last"]]
    ending = "th" if 10 <= value <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{ending}"


def _spell_han_number(match: re.Match[str]) -> str:
    """The number in digits, or unchanged where the signs are not a number (万, 千万, 一二三)."""
    text = match[0]
    if text[0].isdigit():
        number = Decimal(text.rstrip("万亿"))
        for sign in text.lstrip("0123456789."):
            number *= _HAN_MAGNITUDES[sign]
        return _plain(number)
    # 三千 is a group below 万, 五万 a part below 亿: 二亿三千五百万 = 2 * 10^8 + (3000 + 500) * 10^4.
    total = part = group = digit = 0
    previous = ""
    for sign in text:
        if sign in _HAN_DIGITS:
            if _HAN_DIGITS.get(previous):
                return text
            digit = _HAN_DIGITS[sign]
        elif sign in _HAN_TENS:
            if not digit and (sign != "十" or previous in _HAN_TENS):
                return text
            group, digit = group + (digit or 1) * _HAN_TENS[sign], 0
        elif not part + group + digit:
            return text
        elif sign == "万":
            part, group, digit = (group + digit) * _HAN_MAGNITUDES[sign], 0, 0
        else:
            total, part, group, digit = (part + group + digit) * _HAN_MAGNITUDES[sign], 0, 0, 0
        previous = sign
    return str(total + part + group + digit)


def _spell_date(match: re.Match[str]) -> str:
    parts = match.groupdict()
    month = parts["month"]
    if not month.isdigit():
        month = str(next(i for i, name in enumerate(_MONTHS, 1) if re.fullmatch(name, month)))
    year, day = parts["year"], parts.get("day")
    return (f"{year}y" if year else "") + f"{int(month):02}m" + (f"{int(day):02}d" if day else "")


def _spell_unit(match: re.Match[str]) -> str:
    symbol = next(symbol for symbol in _UNITS if match[symbol])
    power = {"square": "2", "平方": "2", "cubic": "3", "立方": "3"}.get(match["power"] or match["han_power"] or "", "")
    return f" {symbol}{power}"
