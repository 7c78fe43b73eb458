r"""Two-way substring exact match, LoongRL's answer reward (arXiv 2510.19363, equation 3): as published, and guarded.

Published: an answer is right when the gold answer is a substring of it, or it of the gold answer. That needs no judge
and forgives an answer for being more or less specific. In characters it also pays for `\boxed{the}` (normalised to
nothing, which is in everything), for "1" when the gold answer is "14 April 1943", and for "e" nearly always.
`matches_as_published` is that rule; `paper_exact` asks for it.

Guarded, the mode `two_way`: both directions in whole tokens. The gold answer in the candidate is the mode `contain`
(`answer_match.py`). The candidate in the gold answer is `says_most_of`: less specific, never less committed. It must
be a run of the gold answer's tokens with more than half of them, lower-case prepositions aside, so that no lone name
or noun ("Obama", "Battle of") pays for every answer that has it. What is left out holds no number (not the II of
"World War II"), symbol, negation, hedge or member of a list, and no function word ties it to the rest ("wife of", "of
Japan"). Two things may be missing: what follows the only comma ("Kansas City" for "Kansas City, Missouri"), and the
unit of a number ("12" for "12 metres", but not "12 Monkeys", "12 million" or "12 pm"). A relative date ("two years
ago") wants equal tokens.

What remains possible is a gold answer without its last or first words where these are the ones that matter ("New York
City" for "New York City mayor", "president of France" for "vice president of France"). Conversely a short name of a
long one ("Barack" for "Barack Hussein Obama II", "US" for "United States") is wrong here: ask a judge for those.
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
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # scripts whose words have no boundaries
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def is_relative_date(words: list[str]) -> bool:
    """Whether the tokens are a date that depends on today and nothing else: yesterday, next month, two years ago."""
    return any(_ANCHOR.fullmatch(word) for word in words) and all(
        word in FUNCTION_WORDS or _OF_A_DATE.fullmatch(word) for word in words
    )


def says_most_of(candidate: str, gold: str, mine: list[str], theirs: list[str]) -> bool:
    """Whether the candidate is the gold answer with only inessential parts left out. mine, theirs: their tokens."""
    at = find_subsequence(theirs, mine)
    if at < 0 or not count_content_words(mine):
        return False
    before, after = theirs[:at], theirs[at + len(mine) :]
    left_out = before + after
    if _decisive(left_out) or _lacks_a_member(candidate, gold) or _is_tied(before, after):
        return False
    said, unsaid = _weight(mine, gold), _weight(left_out, gold)
    if unsaid and len(number_tokens(mine)) == said:
        return _lacks_only_a_unit(gold, mine, theirs)
    return said > unsaid


def _weight(words: list[str], gold: str) -> int:
    """The number of words that count: all but prepositions in lower case, in capitals a name has them."""
    return sum(word not in _PREPOSITIONS or not re.search(rf"\b{word}\b", gold) for word in words)


def _decisive(words: list[str]) -> bool:
    return bool(
        number_tokens(words)
        or (DENIALS | HEDGES).intersection(words)
        or any(is_symbol(word) or _ROMAN.fullmatch(word) or _UNSPACED.match(word) for word in words)
    )


def _lacks_a_member(candidate: str, gold: str) -> bool:
    parts = find_list_separators(gold)
    return parts != [","] and len(find_list_separators(candidate)) < len(parts)


def _is_tied(before: list[str], after: list[str]) -> bool:
    """Whether a function word ties the candidate to what stands before or after it: wife of, of Japan."""
    return bool(
        (count_content_words(before) and before[-1] in FUNCTION_WORDS)
        or (count_content_words(after) and after[0] in FUNCTION_WORDS)
    )


def _lacks_only_a_unit(gold: str, mine: list[str], theirs: list[str]) -> bool:
    """Whether gold is one number and one word that can be its unit: in lower case, where names are not."""
    if len(theirs) != 2 or mine != theirs[:1] or not canonical_number(mine[0]):
        return False
    unit = theirs[1]
    return unit.isalpha() and unit in gold and not _NO_UNIT.fullmatch(unit)


def matches_as_published(candidate: str, gold: str) -> bool:
    """Equation 3 as published: either text is a substring of the other, in characters, after `_normalised`."""
    mine, theirs = _normalised(candidate), _normalised(gold)
    return mine in theirs or theirs in mine


def _normalised(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())
