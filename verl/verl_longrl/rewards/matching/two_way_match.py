r"""Two-way substring match, LoongRL's answer reward (arXiv 2510.19363, equation 3): as published, and guarded.

Published: an answer is right when the gold answer is a substring of it, or it is a substring of the gold answer. That
needs no judge and forgives an answer for being more or less specific. In characters, it also accepts `\boxed{the}`
(normalized to nothing, which is in everything), "1" for "14 April 1943", and "e" nearly always.
`matches_as_published` is that rule; `paper_exact` selects it.

Guarded, the mode `two_way`: both directions in whole tokens. The gold answer inside the candidate is the mode `contain`
(`answer_match.py`). The candidate inside the gold answer is `says_most_of`: it may be less specific, but not less
committed. The candidate must be a run of more than half of the gold answer's tokens, not counting lower-case
prepositions. The rest must hold no number (also not the II of "World War II"), symbol, negation, hedge or list member,
and no function word may tie it to the candidate ("wife of", "of Japan"). Two things may be left out: the text after the
only comma, and the unit of a number. A relative date ("two years ago") requires equal tokens.

| answer | gold answer | verdict | reason |
|---|---|---|---|
| `Martin Luther King` | `Martin Luther King Jr.` | right | three of four tokens |
| `Obama` | `Barack Obama` | wrong | half of the tokens: any Obama would do |
| `Battle of` | `Battle of Hastings` | wrong | prepositions do not count |
| `World War` | `World War II` | wrong | the rest holds a number |
| `Alice` | `Alice and Bob` | wrong | a list member is missing |
| `Emperor Naruhito` | `Emperor Naruhito of Japan` | wrong | the rest is tied by "of" |
| `Kansas City` | `Kansas City, Missouri` | right | the text after the only comma |
| `12` | `12 metres` | right | a number without its unit |
| `12` | `12 Monkeys` | wrong | not a unit: units are in lower case |
| `12` | `12 million` | wrong | not a unit |
| `two years` | `two years ago` | wrong | a relative date |
| `Barack` | `Barack Hussein Obama II` | wrong | a short name of a long one: ask a judge |
| `New York City` | `New York City mayor` | right | a known weakness: the last word matters |
| `president of France` | `vice president of France` | right | a known weakness: the first word matters |
"""

from __future__ import annotations

import re
import string

from verl_longrl.rewards.matching.qualifiers import (
    DENIALS,
    HEDGES,
    count_content_words,
    find_list_separators,
    find_subsequence,
)
from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS, canonical_number, is_symbol, number_tokens

# Words that make a date depend on today, so that most of it says nothing: "two years" of "two years ago".
_ANCHOR = re.compile(
    "yesterday|today|tonight|tomorrow|now|ago|last|next|this|previous|past|coming|following|earlier|later|recently"
    "|before|after"
)
_CALENDAR = (
    "january|february|march|april|may|june|july|august|september|october|november|december|monday|tuesday|wednesday"
    "|thursday|friday|saturday|sunday|spring|summer|autumn|fall|winter"
)
_SPAN = (
    "(?:second|minute|hour|day|night|week|weekend|fortnight|month|quarter|year|season|decade|century)s?|centuries"
    "|morning|afternoon|evening|noon|midnight"
)
_COUNT = "[0-9].*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|few|several|couple|many|half"
_OF_A_DATE = re.compile(f"{_ANCHOR.pattern}|{_CALENDAR}|{_SPAN}|{_COUNT}")
_NO_UNIT = re.compile(f"{_CALENDAR}|hundred|thousand|million|billion|trillion|bn|dozen|am|pm|bc|ad")
_PREPOSITIONS = {"of", "in", "on", "at", "to", "by", "for", "from", "with"}
_ROMAN = re.compile("[ivxl]+")
# Han and kana have no spaces between words, so a run of characters may be half of a word.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def is_relative_date(words: list[str]) -> bool:
    """Whether the tokens are nothing but a date that depends on today: yesterday, next month, two years ago."""
    return any(_ANCHOR.fullmatch(word) for word in words) and all(
        word in FUNCTION_WORDS or _OF_A_DATE.fullmatch(word) for word in words
    )


def says_most_of(candidate: str, gold: str, candidate_tokens: list[str], gold_tokens: list[str]) -> bool:
    """Whether the candidate is the gold answer with only inessential parts left out."""
    start = find_subsequence(gold_tokens, candidate_tokens)
    if start < 0 or not count_content_words(candidate_tokens):
        return False
    before, after = gold_tokens[:start], gold_tokens[start + len(candidate_tokens) :]
    left_out = before + after
    if _is_decisive(left_out) or _lacks_a_member(candidate, gold) or _is_tied(before, after):
        return False
    kept_weight, left_out_weight = _weight(candidate_tokens, gold), _weight(left_out, gold)
    # Numbers alone are more than half of "12 million" too, so what is left out must be a unit.
    if left_out_weight and len(number_tokens(candidate_tokens)) == kept_weight:
        return _lacks_only_a_unit(gold, candidate_tokens, gold_tokens)
    return kept_weight > left_out_weight


def _weight(words: list[str], gold: str) -> int:
    """The number of words that count: all but prepositions in lower case. In capitals they are part of a name."""
    return sum(word not in _PREPOSITIONS or not re.search(rf"\b{word}\b", gold) for word in words)


def _is_decisive(words: list[str]) -> bool:
    """Whether leaving out these words would change what is said: a number, negation, hedge or symbol is among them."""
    return bool(
        number_tokens(words)
        or (DENIALS | HEDGES).intersection(words)
        or any(is_symbol(word) or _ROMAN.fullmatch(word) or _UNSPACED.match(word) for word in words)
    )


def _lacks_a_member(candidate: str, gold: str) -> bool:
    """Whether the gold answer lists more. A single comma may add a place instead: Kansas City, Missouri."""
    gold_separators = find_list_separators(gold)
    return gold_separators != [","] and len(find_list_separators(candidate)) < len(gold_separators)


def _is_tied(before: list[str], after: list[str]) -> bool:
    """Whether a function word ties the candidate to the text before or after it: wife of, of Japan."""
    return bool(
        (count_content_words(before) and before[-1] in FUNCTION_WORDS)
        or (count_content_words(after) and after[0] in FUNCTION_WORDS)
    )


def _lacks_only_a_unit(gold: str, candidate_tokens: list[str], gold_tokens: list[str]) -> bool:
    """Whether gold is one number and one word that can be its unit: in lower case, which names are not."""
    if len(gold_tokens) != 2 or candidate_tokens != gold_tokens[:1] or not canonical_number(candidate_tokens[0]):
        return False
    unit = gold_tokens[1]
    return unit.isalpha() and unit in gold and not _NO_UNIT.fullmatch(unit)


def matches_as_published(candidate: str, gold: str) -> bool:
    """Equation 3 as published: either text is a substring of the other, in characters, after `_normalize`."""
    candidate_text, gold_text = _normalize(candidate), _normalize(gold)
    return candidate_text in gold_text or gold_text in candidate_text


def _normalize(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and articles, with white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())
