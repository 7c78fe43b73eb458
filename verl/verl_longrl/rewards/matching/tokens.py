"""Split a text into the tokens that carry its meaning, so that two ways of writing one answer compare equal.

Forgiven: case, Unicode width and style, accents of Latin letters, articles before a word, quotes, brackets, emphasis in
Markdown or HTML, sentence punctuation, currency signs, hyphens and dashes inside and between words, a number joined to
its unit (10km = 10 km), and how a number is written (3.0 = 3, 1,000 = 1000, .5 = 0.5, +3 = 3). Numbers in words, dates
and units are compared by value (`values.py`).

Kept: words, numbers, and symbols that carry meaning. These are `%` (also spelled percent), `^`, `/` and every
mathematical symbol of Unicode (`+ < > = ≤ ± × → ...`). `*` is kept only where it multiplies, `#` only after a letter
(C#), and `-` only as the sign of a number or at the end of a grade, blood type or ion (A-). So C++, C# and C are three
answers. A raised digit after a number is a power (10² = 10^2, not 102), after a letter an ordinary digit
(km² = km^2 = km2).

Decimals are compared by value (2.10 = 2.1). They are compared as written when the gold answer has one right after a
name (Python 3.10, version 2.10, Table 3.10): there 3.10 is not 3.1. A bare 3.10 cannot be told from a number.

Not told apart: a subtraction from a range or a compound (a - b, 3 - 5, well-known: dashes are dropped), a factorial
from an exclamation (5!), an estimate from a value (~5).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from verl_longrl.rewards.matching.values import spell_values

MAX_CHARS = 10_000
"""A longer text is cut: no right answer is that long, and the time to compare stays bounded."""

# fmt: off
FUNCTION_WORDS = {
    "a", "an", "the", "of", "in", "on", "at", "to", "by", "for", "from", "with", "as", "is", "was", "are", "were", "be",
    "been", "being", "it", "its", "this", "that", "these", "those", "and", "but", "so", "thus", "i", "we",
    "you", "he", "she", "they", "his", "her", "their", "there", "here", "which", "who", "what", "answer",
    "final", "correct", "therefore", "hence", "because", "has", "have", "had", "do", "does", "did",
}
# fmt: on
# In addition to the mathematical symbols, which are Unicode's category Sm.
_SYMBOLS = set("%‰^/♭")
# Words before a decimal that do not make it a name: in "about 3.10" the number is a number.
_QUALIFIERS = {"about", "approximately", "around", "nearly", "over", "roughly", "than", "under"}

_RAISED = "⁰¹²³⁴-⁹"
# NFKC would join these to the digit before them: 10² would become 102, and 5½ become 51/2.
_BEFORE_FOLDING = (
    (re.compile(rf"(?<=[0-9)\]])(?=[{_RAISED}⁺⁻])|(?=[⁺⁻][{_RAISED}])"), "^"),
    (re.compile(r"(?<=[0-9])(?=[¼-¾⅐-⅟↉₀-₉①-⓿])"), " "),
    (re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile("[™\ufe00-\ufe0f]"), ""),
    # Emphasis in LaTeX, Markdown and HTML. Other tags are not touched, since x <y> z may be a comparison.
    (
        re.compile(
            r"</?(?:answer|b|i|u|em|strong|mark|small|big|code|tt|kbd|span|p|div|sub|sup|q|br)(?:\s[^<>]{0,200})?/?>",
            re.IGNORECASE,
        ),
        " ",
    ),
    # A struck out answer is taken back.
    (re.compile(r"~~|</?(?:s|del|strike)>|\\(?:sout|cancel|xout)\b|[❌✗✘🚫⛔]", re.IGNORECASE), " ¬ "),
    (re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|emph|underline|boxed|mbox)\s?(?=\{)"), " "),
    (re.compile(r"(?<!\w)_{1,3}(?=\w)|(?<=[^\W_])_{1,3}(?!\w)"), " "),
    (re.compile(r"\n|\s[-–—]{1,3}\s|所以|因此"), " ; "),
)
_ACCENTS = re.compile("(?<=[a-z])[\u0300-\u036f]+")
_ALIKE = str.maketrans("−–‒⁄∕÷∶⋅∗⩽⩾⇒⟶⟹➔➜", "---///:××≤≥→→→→→") | str.maketrans(dict.fromkeys("~≈∼≃≅", " "))
_ACRONYM = re.compile(r"\b(?:[^\W\d_]\.\s?){2,}")
_SAINT = re.compile(r"\bst\.\s(?=[a-z])")
_CALLED = re.compile(r"\b(?:is|are|was|were)\s(?:called|named|known\sas)\b")
_NOT = re.compile(r"(?<=[a-z])n['\u2019]t\b|(?<=\bcan)not\b")
_UNITS = (
    "km|cm|mm|nm|m|mi|ft|ha|kg|mg|lbs?|oz|ml|l|kwh|mwh|kw|mw|gw|w|kv|mv|v|kev|mev|gev|ev|khz|mhz|ghz|thz|hz|kb|mb|gb|tb"
    "|db|mph|kph|kmh|rpm|fps|px|ms|secs?|mins?|hrs?|am|pm|usd|eur|bn"
)
# Applied in this order to folded text. Each one decides what a sign means from its neighbours, and rewrites the signs
# that carry meaning as a symbol that `_carries_meaning` keeps; all others are dropped with the punctuation.
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"['\u2019`]", ""),
        (r"\b(?:per\s?cent|pct)\b", "%"),
        (r"百分之([0-9.]{1,30})", r"\1%"),
        (r"\+\s?/\s?-|\+-", "±"),
        (r"(?:--?|=)>", "→"),
        (r"<=", "≤"),
        (r">=", "≥"),
        (r"!=", "≠"),
        (r"&", " and "),
        # 2**3 is a power, and 2*3 or a * b a product. Elsewhere stars are emphasis or bullets.
        (r"(?<=[a-z0-9)])\*\*(?=[a-z0-9(])", "^"),
        (r"(?<=[a-z0-9)])(\s?)\*\1(?=[a-z0-9(])", "×"),
        # km^2 is km2.
        (r"(?<=[^\W\d_])\^\{?(?=[0-9])", ""),
        # C#. Elsewhere # begins a heading or means "number".
        (r"(?<=[a-z])#(?!\w)", "♯"),
        # A-, AB-, Cl-.
        (r"(?:(?<=\b[a-z])|(?<=\b[a-z]{2}))-(?![\w-])", "−"),
        # The sign of an amount of money, and the negation of a flag or a pattern: !C++.
        (r"(?<![\w.)\]])-\s?([$€£¥])\s?(?=[0-9])", r"\1-"),
        (r"(?<![\w!])!(?=[\w-])", "¬"),
        # 1943- is open at its end. An arrow before an answer only points to it.
        (r"(?<=[0-9])([ymd]?)\s?-\s*\Z", r"\1 →"),
        (r"(?<=answer)\s?→", ":"),
        (r"\A\s*(?:[→=]+\s?(?=[\w$€£¥-])|>\s(?=[^\W\d]))", ""),
        # +3 where the plus is a sign, not an operator.
        (r"(?:\A\s{0,9}|(?<=[(\[,;:=<>])\s?)\+(?=\.?[0-9])", ""),
        (r"(?<![\w.)\]])\.(?=[0-9])", "0."),
        (r"\bv\.?(?=[0-9]{1,9}\.[0-9])", "version "),
        # A date, 14/4/1943, is not two divisions.
        (r"(?<![\w/])([0-9]{1,4})/([0-9]{1,2})/([0-9]{1,4})(?![\w/])", r"\1-\2-\3"),
        # input/output. Elsewhere a slash divides.
        (r"(?<=[^\W\d_]{2})/(?=[^\W\d_]{2})", " "),
        (rf"(?<!\w)([0-9][0-9,.]{{0,30}})({_UNITS})(?=[23]?\b)", r"\1 \2"),
        # An article before a word, but not the a of a + b.
        (r"\b(?:a|an|the)\s+(?![^\w\s]{0,3}(?:and|or)\b)(?=[^\w\s+=<>/^%-]{0,3}\w)", ""),
    )
)
_TOKEN = re.compile(
    # 2.10.1 and 192.168.0.1 are never numbers.
    r"[0-9]{1,30}(?:\.[0-9]{1,30}){2,}\w*"
    # A number, with its sign unless it follows a word: -5, 1,000.50.
    r"|(?:(?<![a-z0-9_.)])-(?=[0-9]))?(?:[0-9]{1,3}(?:,[0-9]{3}){1,6}|[0-9]{1,30})(?:\.[0-9]{1,30})?(?![a-z0-9_])"
    # One Han or kana character, a word, or any other character.
    r"|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
    r"|[^\w\s]"
)
_BREAKS = set(",;:()[]{}.!?、。")
_NAMED_DECIMAL = re.compile(r"\b([^\W\d_]+)\s+[0-9]{1,30}\.[0-9]")


def answer_tokens(text: str, *, as_written: bool = False) -> list[str]:
    """Comparable tokens of `text` (see the module docstring). Each Han or kana character is one token.

    as_written: decimals keep their trailing zeros, so 3.10 is not 3.1 (but 3.0 is 3).

    >>> answer_tokens("The U.S. paid $1,000.50 for 10km²!")
    ['us', 'paid', '1000.5', 'for', '10', 'km2']
    """
    return split_words(text, as_written=as_written).words


class Words(NamedTuple):
    """The tokens of a text, and where punctuation separates them."""

    words: list[str]
    breaks: dict[int, str]
    """Index of a token -> the comma, colon, bracket, dash, line break or end of a sentence that is before it."""


def split_words(text: str, *, as_written: bool = False) -> Words:
    """The tokens of `text`, as `answer_tokens`, with their breaks.

    >>> split_words("Paris, the capital")
    Words(words=['paris', 'capital'], breaks={1: ','})
    """
    words: list[str] = []
    breaks: dict[int, str] = {}
    for token in _TOKEN.findall(_fold(text)):
        if len(token) > 1 or _carries_meaning(token):
            words.append(canonical_number(token, as_written=as_written) or token)
        elif token in _BREAKS:
            breaks[len(words)] = token
    return Words(words, breaks)


def decimals_are_names(gold: str) -> bool:
    """Whether `gold` has a decimal right after a name (Python 3.10), so that its decimals are compared as written."""
    words_before = (match[1] for match in _NAMED_DECIMAL.finditer(_fold(gold)))
    return any(word not in FUNCTION_WORDS | _QUALIFIERS for word in words_before)


def currency_signs(text: str) -> set[str]:
    """The currency signs in `text`. They are not tokens, because "5" is right for "$5", but "€5" is wrong."""
    characters = set(_fold(text))
    return {character for character in characters if unicodedata.category(character) == "Sc"}


def canonical_number(token: str, *, as_written: bool = False) -> str:
    """The canonical spelling of a number, and "" for anything else. Leading zeros make an identifier, not a number.

    >>> canonical_number("1,000.50"), canonical_number("007")
    ('1000.5', '')
    """
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
    """Whether a token is a symbol rather than a word, a number or a part of a word."""
    return token in _SYMBOLS or (len(token) == 1 and unicodedata.category(token) == "Sm")


def _carries_meaning(character: str) -> bool:
    """Whether a lone character carries meaning: a letter, digit or symbol, or a vowel sign as in Hindi and Thai."""
    kind = unicodedata.category(character)
    return character in _SYMBOLS or kind[0] in "LN" or kind in ("Sm", "Mn", "Mc")


@lru_cache(maxsize=256)
def _fold(text: str) -> str:
    """`text` in one case, one Unicode width and one spelling of each symbol."""
    text = text[:MAX_CHARS]
    for pattern, replacement in _BEFORE_FOLDING:
        text = pattern.sub(replacement, text)
    text = unicodedata.normalize("NFKC", text).casefold().translate(_ALIKE)
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))
    text = _ACRONYM.sub(lambda match: re.sub(r"[.\s]", "", match[0]) + " ", _SAINT.sub("saint ", text))
    text = spell_values(_NOT.sub(" not", _CALLED.sub("is", text)))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text
