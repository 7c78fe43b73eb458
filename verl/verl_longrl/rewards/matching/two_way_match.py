r"""Two-way substring match, LoongRL's answer reward (arXiv 2510.19363, equation 3): as published, and guarded.

Published: an answer is right when the gold answer is a substring of it, or it is a substring of the gold answer. That
needs no judge and forgives an answer for being more or less specific. In characters, it also accepts `\boxed{the}`
(normalized to nothing, which is in everything), "1" for "14 April 1943", and "e" nearly always.
`matches_as_published` is that rule; `paper_exact` selects it.

Guarded, the mode `two_way`: both directions in whole tokens. The gold answer inside the candidate is the mode `contain`
(`commitment.py`). The candidate inside the gold answer is `says_most_of`: it may be less specific, but not less
committed. What is left out must be harmless: function words, honorifics, the ending of a person's name, a place after
the only comma, the unit of a number, or words of the question that a preposition ties to the rest. A relative date
("two years ago") requires equal tokens.

| answer | gold answer | verdict | reason |
|---|---|---|---|
| `Martin Luther King` | `Martin Luther King Jr.` | right | the ending of a name |
| `Elizabeth II` | `Queen Elizabeth II` | right | an honorific |
| `Obama` | `Barack Obama` | wrong | any Obama would do |
| `Battle of` | `Battle of Hastings` | wrong | the rest is not harmless |
| `World War` | `Second World War` | wrong | an ordinal is a number |
| `Alice` | `Alice and Bob` | wrong | a list member is missing |
| `Emperor Naruhito` | `Emperor Naruhito of Japan` | wrong | "of Japan", unless the question has it |
| `Kansas City` | `Kansas City, Missouri` | right | the place after the only comma |
| `12` | `12 metres` | right | a number without its unit |
| `12` | `12 Monkeys` | wrong | not a unit: units are in lower case |
| `12` | `12 million` | wrong | another number |
| `two years` | `two years ago` | wrong | a relative date |
| `New York City` | `New York City mayor` | wrong | the last word decides what it is |
| `president of France` | `vice president of France` | wrong | the first word does, too |
| `Barack Obama` | `Barack Hussein Obama II` | wrong | a short name of a long one: ask a judge |
"""

from __future__ import annotations

import re
import string

from verl_longrl.rewards.matching.commitment import Question
from verl_longrl.rewards.matching.qualifiers import (
    DECISIVE,
    HONORIFICS,
    NAME_SUFFIXES,
    find_list_separators,
    find_subsequences,
)
from verl_longrl.rewards.matching.tokens import (
    FUNCTION_WORDS,
    answer_tokens,
    canonical_number,
    currency_signs,
    is_symbol,
    number_tokens,
)

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


def says_most_of(
    candidate: str, gold: str, candidate_words: list[str], gold_words: list[str], question: Question
) -> bool:
    """Whether the candidate is the gold answer with only harmless words left out at its ends."""
    starts = find_subsequences(gold_words, candidate_words)
    if not starts or all(question.is_harmless(word) for word in candidate_words):
        return False
    before, after = gold_words[: starts[0]], gold_words[starts[0] + len(candidate_words) :]
    if _is_decisive([*before, *after]) or _lacks_a_member(candidate, gold):
        return False
    return _is_introduction(before, gold) and (
        _is_addition(after, question)
        or _lacks_only_a_unit(candidate, gold, candidate_words, gold_words)
        or _lacks_only_the_place(candidate_words, gold)
    )


def _is_decisive(words: list[str]) -> bool:
    """Whether leaving out these words would change what is said: a number, negation, hedge or symbol is among them."""
    return bool(
        number_tokens(words)
        or DECISIVE.intersection(words)
        or any(is_symbol(word) or _ROMAN.fullmatch(word) or _UNSPACED.match(word) for word in words)
    )


def _lacks_a_member(candidate: str, gold: str) -> bool:
    """Whether the gold answer lists more. A single comma may add a place instead: Kansas City, Missouri."""
    gold_separators = find_list_separators(gold)
    return gold_separators != [","] and len(find_list_separators(candidate)) < len(gold_separators)


def _is_introduction(words: list[str], gold: str) -> bool:
    """Whether the words before the candidate may be missing: prepositions in lower case, or the honorific of a name."""
    if len(words) == 1 and words[0] in HONORIFICS:
        return gold[:1].isupper()
    # In capitals, a preposition is part of a title: From Hell.
    return all(word in _PREPOSITIONS and re.search(rf"\b{word}\b", gold) for word in words)


def _is_addition(words: list[str], question: Question) -> bool:
    """Whether the words after the candidate may be missing: endings of names, or words of the question ("of Japan")."""
    return all(word in NAME_SUFFIXES for word in words) or (
        words[0] in _PREPOSITIONS and all(question.is_harmless(word) for word in words)
    )


def _lacks_only_a_unit(candidate: str, gold: str, candidate_words: list[str], gold_words: list[str]) -> bool:
    """Whether gold is one number and one word that can be its unit: in lower case, which names are not."""
    if (
        len(gold_words) != 2
        or currency_signs(candidate)
        or candidate_words != gold_words[:1]
        or not canonical_number(candidate_words[0])
    ):
        return False
    unit = gold_words[1]
    return unit.isalpha() and gold == gold.lower() and not _NO_UNIT.fullmatch(unit)


def _lacks_only_the_place(candidate_words: list[str], gold: str) -> bool:
    """Whether the candidate is all before the only comma, and more words than are after it: Kansas City, Missouri."""
    head, comma, place = gold.partition(",")
    return bool(comma) and candidate_words == answer_tokens(head) and len(candidate_words) > len(answer_tokens(place))


def matches_as_published(candidate: str, gold: str) -> bool:
    """Equation 3 as published: either text is a substring of the other, in characters, after `_normalize`."""
    candidate_text, gold_text = _normalize(candidate), _normalize(gold)
    return candidate_text in gold_text or gold_text in candidate_text


def _normalize(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and articles, with white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())
