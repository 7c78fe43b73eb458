"""A text as the tokens that carry its meaning, so that two ways of writing one answer compare equal.

Forgiven: case, Unicode width and style, articles before a word, quotes, brackets, emphasis, sentence punctuation,
currency signs, hyphens and dashes inside and between words, a number glued to its unit (10km = 10 km), and how a
number is written (3.0 = 3, 1,000 = 1000, .5 = 0.5, +3 = 3).

Kept: words, numbers, and symbols that carry meaning. These are `%` (also spelled percent), `^`, `/` and every
mathematical symbol of Unicode (`+ < > = ≤ ± × → ...`), with `*` only where it multiplies, `#` only after a letter (C#)
and `-` only as a number's sign or at the end of a grade, blood type or ion (A-). So C++, C# and C are three answers.
A raised digit after a number is a power (10² = 10^2, not 102), after a letter an ordinary digit (km² = km^2 = km2).

Decimals are compared by value (2.10 = 2.1). They are compared as written when the gold answer puts one right after a
name (Python 3.10, version 2.10, Table 3.10): there 3.10 is not 3.1. A bare 3.10 cannot be told from a number.

Not told apart: a subtraction from a range or a compound (a - b, 3 - 5, well-known: dashes are dropped), a factorial
from an exclamation (5!), an estimate from a value (~5).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_CHARS = 10_000  # an answer beyond this is cut: nothing right is that long, and time stays bounded

# fmt: off
FUNCTION_WORDS = {
    "a", "an", "the", "of", "in", "on", "at", "to", "by", "for", "from", "with", "as", "is", "was", "are", "were", "be",
    "been", "being", "it", "its", "this", "that", "these", "those", "and", "but", "so", "thus", "i", "we",
    "you", "he", "she", "they", "his", "her", "their", "there", "here", "which", "who", "what", "answer",
    "final", "correct", "therefore", "hence", "because", "has", "have", "had", "do", "does", "did",
}
# fmt: on
_SYMBOLS = set("%‰^/♭")  # beside the mathematical ones, Unicode's category Sm
_QUALIFIERS = {"about", "approximately", "around", "nearly", "over", "roughly", "than", "under"}

_RAISED = "⁰¹²³⁴-⁹"
_BEFORE_FOLDING = (  # NFKC would glue these to the digit before them: 10² = 102, 5½ = 51/2
    (re.compile(rf"(?<=[0-9)\]])(?=[{_RAISED}⁺⁻])|(?=[⁺⁻][{_RAISED}])"), "^"),
    (re.compile(r"(?<=[0-9])(?=[¼-¾⅐-⅟↉₀-₉①-⓿])"), " "),
    (re.compile("[™\ufe00-\ufe0f]"), ""),
)
_ALIKE = str.maketrans("−⁄∕÷∶⋅∗⩽⩾⇒⟶⟹➔➜", "-///:××≤≥→→→→→") | str.maketrans(dict.fromkeys("~≈∼≃≅", " "))
_ACRONYM = re.compile(r"\b(?:[^\W\d_]\.){2,}")
_UNITS = (
    "km|cm|mm|nm|m|mi|ft|ha|kg|mg|lbs?|oz|ml|l|kwh|mwh|kw|mw|gw|w|kv|mv|v|kev|mev|gev|ev|khz|mhz|ghz|thz|hz|kb|mb|gb|tb"
    "|db|mph|kph|kmh|rpm|fps|px|ms|secs?|mins?|hrs?|am|pm|usd|eur|bn"
)
_REWRITES = tuple(  # in this order; afterwards the symbols that count are those of `_counts`
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"['\u2019`]", ""),
        (r"\bper\s?cent\b", "%"),
        (r"\+\s?/\s?-|\+-", "±"),
        (r"(?:--?|=)>", "→"),
        (r"<=", "≤"),
        (r">=", "≥"),
        (r"!=", "≠"),
        (r"&", " and "),
        (r"(?<=[a-z0-9)])\*\*(?=[a-z0-9(])", "^"),  # 2**3; elsewhere stars are emphasis or bullets
        (r"(?<=[a-z0-9)])(\s?)\*\1(?=[a-z0-9(])", "×"),  # 2*3, a * b
        (r"(?<=[^\W\d_])\^\{?(?=[0-9])", ""),  # km^2
        (r"(?<=[a-z])#(?!\w)", "♯"),  # C#; elsewhere # is a heading or "number"
        (r"(?:(?<=\b[a-z])|(?<=\b[a-z]{2}))-(?![\w-])", "−"),  # A-, AB-, Cl-
        (r"(?:\A\s{0,9}|(?<=[(\[,;:=<>])\s?)\+(?=\.?[0-9])", ""),  # +3 where it is a sign
        (r"(?<![\w.)\]])\.(?=[0-9])", "0."),
        (r"\bv\.?(?=[0-9]{1,9}\.[0-9])", "version "),
        (r"(?<![\w/])([0-9]{1,4})/([0-9]{1,2})/([0-9]{1,4})(?![\w/])", r"\1-\2-\3"),  # a date
        (r"(?<=[^\W\d_]{2})/(?=[^\W\d_]{2})", " "),  # input/output; elsewhere / divides
        (rf"(?<!\w)([0-9][0-9,.]{{0,30}})({_UNITS})(?=[23]?\b)", r"\1 \2"),
        (r"\b(?:a|an|the)\s+(?![^\w\s]{0,3}(?:and|or)\b)(?=[^\w\s+=<>/^%-]{0,3}\w)", ""),  # not the a of a + b
    )
)
_TOKEN = re.compile(
    r"[0-9]{1,30}(?:\.[0-9]{1,30}){2,}\w*"  # 2.10.1, 192.168.0.1: never a number
    r"|(?:(?<![\w.)])-(?=[0-9]))?(?:[0-9]{1,3}(?:,[0-9]{3}){1,6}|[0-9]{1,30})(?:\.[0-9]{1,30})?(?!\w)"
    r"|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
    r"|[^\w\s]"
)
_NAMED_DECIMAL = re.compile(r"\b([^\W\d_]+)\s+[0-9]{1,30}\.[0-9]")


def answer_tokens(text: str, *, as_written: bool = False) -> list[str]:
    """Comparable tokens of `text` (see the module docstring). Han and kana characters are tokens of their own.

    as_written: decimals keep their trailing zeros, so 3.10 is not 3.1 (but 3.0 is 3).
    """
    found = _TOKEN.findall(_fold(text))
    kept = (token for token in found if len(token) > 1 or _counts(token))
    return [canonical_number(token, as_written=as_written) or token for token in kept]


def decimals_are_names(gold: str) -> bool:
    """Whether `gold` has a decimal right after a name, so that its decimals must be met as written."""
    named = (match[1] for match in _NAMED_DECIMAL.finditer(_fold(gold)))
    return any(word not in FUNCTION_WORDS | _QUALIFIERS for word in named)


def currency_signs(text: str) -> set[str]:
    """The currency signs in `text`. Tokens leave them out, since "5" may answer "$5"; "€5" may not."""
    characters = set(unicodedata.normalize("NFKC", text[:MAX_CHARS]))
    return {character for character in characters if unicodedata.category(character) == "Sc"}


def canonical_number(token: str, *, as_written: bool = False) -> str:
    """The canonical spelling of a number, "" for anything else; leading zeros make an identifier, not a number."""
    digits = token.replace(",", "")
    if not re.fullmatch(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", digits):
        return ""
    if "." in digits:
        digits = re.sub(r"\.0+$", "", digits) if as_written else digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def number_tokens(words: Iterable[str]) -> set[str]:
    """The tokens that are numbers or begin with one (1990s, 4th, 2.10.1)."""
    return {word for word in words if word.removeprefix("-")[:1].isdigit()}


def is_symbol(token: str) -> bool:
    """Whether a token is a symbol, not a word, a number or a part of a word."""
    return token in _SYMBOLS or (len(token) == 1 and unicodedata.category(token) == "Sm")


def _counts(character: str) -> bool:
    """Whether a lone character carries meaning: a letter, a digit, a symbol, or a vowel sign as Hindi and Thai have."""
    kind = unicodedata.category(character)
    return character in _SYMBOLS or kind[0] in "LN" or kind in ("Sm", "Mn", "Mc")


def _fold(text: str) -> str:
    """`text` in one case, width and spelling of each symbol."""
    text = text[:MAX_CHARS]
    for pattern, replacement in _BEFORE_FOLDING:
        text = pattern.sub(replacement, text)
    text = unicodedata.normalize("NFKC", text).casefold().translate(_ALIKE)
    text = _ACRONYM.sub(lambda match: match[0].replace(".", "") + " ", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text
