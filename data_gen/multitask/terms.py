"""Find words and years whose occurrences can be counted without ambiguity, by code and by any reader.

A question may only name a word if all ways to count it agree. So the text must have no other word that contains it
(Bennet in Bennets, art in party, known in well-known), that is its plural or singular, that differs by an accent, or
that is broken up by a line end. Then searching for words and searching for letters give the same result. The possessive
form ("word's") counts. A year may only be named if every number of four digits in the text is a year by itself (not a
part of 1840s, 1848-49, v1.2014).
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST, MOST = 2, 60
"""Fewest and most occurrences of a word that a question may name."""
_WORD = re.compile(r"[^\W_]+(?:['’_‐‑-]+[^\W_]+)*")
_PLAIN = re.compile(r"[A-Za-z]{4,20}")
_POSSESSIVE = re.compile(r"['’]s\Z", re.IGNORECASE)
_FORMS = (("s", ""), ("es", ""), ("ies", "y"), ("y", "ies"), ("men", "man"), ("man", "men"))
_BROKEN = re.compile(r"(\w+)[-‐‑\u00ad]\s+(\w+)")
_FOUR_DIGITS = re.compile(r"(?<![0-9])(?:1[0-9]{3}|20[0-9]{2})(?![0-9])")
_BEFORE, _AFTER = re.compile(r"[\w.,:'’$€£#/+-]\Z"), re.compile(r"[\w%/-]|[.,:'’][0-9]")
# fmt: off
_MEANINGLESS = frozenset([
    "about", "above", "after", "again", "against", "along", "also", "although", "among", "another", "away", "back",
    "because", "been", "before", "being", "below", "beneath", "between", "beyond", "both", "came", "come", "could",
    "does", "done", "down", "during", "each", "either", "else", "even", "ever", "every", "from", "further", "have",
    "having", "hence", "here", "hers", "herself", "himself", "however", "indeed", "instead", "into", "itself", "just",
    "like", "made", "make", "many", "might", "mine", "more", "moreover", "most", "much", "must", "myself", "near",
    "neither", "never", "nevertheless", "none", "nothing", "often", "once", "only", "other", "others", "ought", "ours",
    "over", "passage", "passages", "perhaps", "quite", "rather", "said", "same", "shall", "should", "since", "some",
    "something", "such", "than", "that", "their", "theirs", "them", "themselves", "then", "there", "therefore", "these",
    "they", "this", "those", "though", "through", "thus", "till", "together", "toward", "towards", "under", "until",
    "upon", "very", "well", "went", "were", "what", "when", "where", "whereas", "whether", "which", "while", "whom",
    "whose", "will", "with", "within", "without", "would", "year", "years", "your", "yours",
])
# fmt: on


@dataclass(frozen=True)
class Term:
    """A word in its most frequent spelling, with its number of occurrences in each passage that contains it (passages
    are numbered from 1).

    is_name: it is always capitalised, also within a sentence."""

    word: str
    counts: dict[int, int]
    is_name: bool = False

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def passages(self) -> list[int]:
        """Numbers of the passages that contain it, ascending."""
        return sorted(self.counts)


def find_terms(passages: Sequence[str]) -> list[Term]:
    """The words that a question may name, in the order of their first occurrence. passages: texts on one line each."""
    counts: dict[str, Counter[int]] = {}
    spellings: dict[str, Counter[str]] = {}
    # Words that occur within a sentence: after a lower-case letter, maybe with a comma in between.
    within_sentence: set[str] = set()
    broken: list[str] = []
    for number, passage in enumerate(passages, 1):
        for match in _WORD.finditer(passage):
            word = _POSSESSIVE.sub("", match[0])
            key = word.casefold()
            counts.setdefault(key, Counter())[number] += 1
            spellings.setdefault(key, Counter())[word] += 1
            if passage[max(0, match.start() - 3) : match.start()].strip(" ,")[-1:].islower():
                within_sentence.add(key)
        broken += [(one + other).casefold() for one, other in _BROKEN.findall(passage)]
    accented = [_without_accents(key) for key in counts if not key.isascii()]
    # All different words, one per line. A word that occurs in this text only once is contained in no other word.
    vocabulary = "\n".join([*counts, *broken, *accented])
    terms = []
    for key, by_passage in counts.items():
        if not FEWEST <= by_passage.total() <= MOST or not _PLAIN.fullmatch(key) or key in _MEANINGLESS:
            continue
        has_other_form = any(key.endswith(end) and key.removesuffix(end) + new in counts for end, new in _FORMS)
        if has_other_form or vocabulary.count(key) != 1:
            continue
        is_name = key in within_sentence and all(map(str.istitle, spellings[key]))
        terms.append(Term(_main_spelling(spellings[key]), dict(by_passage), is_name))
    return terms


def shuffled(terms: Sequence[Term], draw: random.Random) -> list[Term]:
    """The terms in random order, names first."""
    return sorted(draw.sample(terms, len(terms)), key=lambda term: not term.is_name)


def find_years(passages: Sequence[str]) -> dict[int, list[int]]:
    """The years in the text, ascending, each with the numbers of the passages that mention it; {} if it is uncertain
    whether some number of four digits is a year."""
    years: dict[int, list[int]] = {}
    for number, passage in enumerate(passages, 1):
        for match in _FOUR_DIGITS.finditer(passage):
            if _BEFORE.search(passage[: match.start()][-1:]) or _AFTER.match(passage, match.end()):
                return {}
            mentions = years.setdefault(int(match[0]), [])
            if number not in mentions:
                mentions.append(number)
    return dict(sorted(years.items()))


def _main_spelling(spellings: Counter[str]) -> str:
    """The most frequent spelling; of equally frequent ones, that with the most lower-case letters."""
    return min(spellings, key=lambda word: (-spellings[word], word.swapcase()))


def _without_accents(word: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
