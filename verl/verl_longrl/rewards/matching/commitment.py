"""Decide whether a text commits to one answer: the rule behind the modes `contain` and `two_way`.

**An answer is the gold answer and nothing else that makes a claim.** Words beyond it are allowed only if they are
harmless, and only where they do not modify it:

- Harmless are function words, the words of the question in any inflection, nouns that introduce an answer ("the year
  1943") and honorifics. All other words are claims: a second candidate, a negation, another unit. Nobody has to list
  them. Negations, hedges, bounds ("less than", "before"), numbers and symbols are never harmless.
- A harmless word modifies the answer when it touches it: "vice president" is not "president", and "New York City mayor"
  not "New York City", even if the question has "vice" and "mayor". Between a word of the question and the answer there
  must be punctuation, a copula or a preposition ("Paris is the capital", "born in Paris", "Paris, France"), or a whole
  clause ("Marie Curie discovered radium"). "Of" ties a word to what follows: "wife of Henry VIII" is not "Henry VIII".
- Where the question offers the answer ("Is Paris or Rome older?"), its words are claims like all others. They would
  make every alternative free.
- Without a question, the words before the last copula or colon are not looked at, except for negations, hedges and
  bounds. Only what follows is read as the answer, so one text can never earn two different answers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache

from verl_longrl.rewards.matching.qualifiers import (
    ALTERNATIVES,
    APPOSITIVES,
    COPULAS,
    DECISIVE,
    HARMLESS,
    HONORIFICS,
    POINTERS,
    find_subsequences,
    is_number_or_time,
)
from verl_longrl.rewards.matching.tokens import Words, answer_tokens, is_symbol, number_tokens

# Before a number or a date, these words change it: "by 1990", "from 5".
BOUNDING = {"by", "from", "to", "with", "but"}
# They join another answer to the one next to them: "Newton and Hooke".
_JOINING = {"and", "和", "与"}
_PREPOSITIONS = {"of", "in", "on", "at", "to", "by", "for", "from", "with"}
_PRONOUNS = {"it", "he", "she", "they", "we", "i"}
_ENDING = re.compile(r"(?<=\w\w\w)(?:ing|ies|ied|es|ed|s|e|y|d)\Z")
_IRREGULAR_VERBS = """
became=become began=begin begun=begin born=bear bought=buy broke=break brought=bring built=build came=come
chose=choose drew=draw fell=fall fought=fight found=find gave=give given=give got=get grew=grow held=hold knew=know
known=know led=lead left=leave lost=lose made=make met=meet paid=pay ran=run said=say sang=sing sat=sit saw=see
seen=see sent=send sold=sell spent=spend spoke=speak spoken=speak stood=stand stole=steal swam=swim taken=take
taught=teach thought=think threw=throw told=tell took=take went=go gone=go won=win wore=wear wrote=write
written=write
"""
_INFINITIVES = dict(pair.split("=") for pair in _IRREGULAR_VERBS.split())


class Question:
    """The words of a question, as far as they are harmless next to this gold answer."""

    def __init__(self, text: str, gold_words: Sequence[str]):
        words = _question_words(text)
        self.is_known = bool(words)
        offers_answer = bool(find_subsequences(list(words), list(gold_words))) or not ALTERNATIVES.isdisjoint(words)
        self._words = () if offers_answer or "还是" in text else words
        self.size = len(self._words)
        self._stems = {_stem(word) for word in self._words if word not in DECISIVE and not is_symbol(word)}

        if "why" in words:
            self._stems.add(_stem("because"))
        asked_for = {word for before, word in itertools.pairwise(words) if before in ("which", "what")}
        self._asked_for = asked_for - DECISIVE

    def has(self, word: str) -> bool:
        """Whether the question has this word, in any inflection."""
        return _stem(word) in self._stems

    def ends_with(self, words: Sequence[str]) -> bool:
        """Whether these are the last words of the question."""
        return bool(words) and [_stem(word) for word in self._words[-len(words) :]] == [_stem(word) for word in words]

    def names_kind(self, word: str) -> bool:
        """Whether the word only says what kind of thing the answer is: "novel" where the question asks which novel."""
        return word in POINTERS or word in self._asked_for

    def names_thing(self, word: str) -> bool:
        """Whether "WORD of" names the thing itself: "the city of Paris"."""
        return word in APPOSITIVES or word in self._asked_for or word in HARMLESS

    def says(self, words: Sequence[str]) -> bool:
        """Whether these words, at least three, are in the question one after another."""
        return len(words) > 2 and bool(find_subsequences(list(self._words), list(words)))

    def is_harmless(self, word: str) -> bool:
        """Whether the word claims nothing that the question does not say already."""
        return word not in DECISIVE and (word in HARMLESS or self.has(word))


@lru_cache(maxsize=1024)
def _question_words(text: str) -> tuple[str, ...]:
    return tuple(answer_tokens(text))


def _stem(word: str) -> str:
    """A word without its inflection, well enough to find a word of the question again.

    >>> [_stem(word) for word in ("cities", "city", "ended", "end", "won", "win")]
    ['cit', 'cit', 'end', 'end', 'win', 'win']
    """
    word = _ENDING.sub("", _INFINITIVES.get(word, word))
    return word[:-1] if len(word) > 3 and word[-1:] == word[-2:-1] else word


def without_question(text: Words, question: str) -> Words:
    """`text` without the question, where it is repeated before the answer."""
    words = list(_question_words(question))
    start = next(iter(find_subsequences(text.words[: len(words) + 1], words)), -1)
    end = start + len(words)
    if start < 0 or end == len(text.words) or end not in text.breaks:
        return text
    return Words(text.words[end:], {i - end: sign for i, sign in text.breaks.items() if i >= end})


def commits_to(text: Words, gold_words: list[str], gold: str, question: Question) -> bool:
    """Whether `text` says `gold` and nothing else that makes a claim."""
    if all(word in HARMLESS for word in gold_words):
        return False
    for start in find_subsequences(text.words, gold_words):
        end = start + len(gold_words)
        introduced = _introduces(text, start, gold_words, gold, question)
        if introduced and _leaves_as_it_is(text.words[end:], end in text.breaks, gold_words, question):
            return True
    return False


def _introduces(text: Words, start: int, gold_words: list[str], gold: str, question: Question) -> bool:
    """Whether the words before the answer, which begins at `start`, only introduce it."""
    words = text.words[:start]
    if not question.is_known and DECISIVE.isdisjoint(words):
        words = words[_lead_in_end(text, start) :]
    is_subject = question.says(words[:-1] if words[-1:] and words[-1] in COPULAS else words)
    if not is_subject and not all(
        question.is_harmless(word) or question.names_kind(word) or word in HONORIFICS for word in words
    ):
        return False
    if not words or start in text.breaks:
        return True
    last, subjects = words[-1], [word for word in words if word not in HARMLESS or word in _PRONOUNS]
    if last in HARMLESS:
        is_bound = last in BOUNDING and is_number_or_time(gold_words)
        is_part = last == "of" and words[-2:-1] != [] and not question.names_thing(words[-2])
        return not is_bound and not is_part and last not in _JOINING
    if last in HONORIFICS:
        return gold[:1].isupper()
    # Subject and verb, "Messi scored" before 12. One word alone modifies: "vice" before president. Han characters are
    # not words, so two of them prove nothing.
    return question.names_kind(last) or (len(subjects) > 1 and not _is_han_name(gold_words))


def _is_han_name(gold_words: list[str]) -> bool:
    return "\u3400" <= gold_words[0][0] <= "\u9fff" and not number_tokens(gold_words)


def _lead_in_end(text: Words, start: int) -> int:
    """The index after the last copula or colon before `start`; 0 without one."""
    copulas = [i + 1 for i, word in enumerate(text.words[:start]) if word in COPULAS]
    colons = [i for i, sign in text.breaks.items() if i <= start and sign == ":"]
    return max([0, *copulas, *colons])


def _leaves_as_it_is(words: list[str], separated: bool, gold_words: list[str], question: Question) -> bool:
    """Whether the words after the answer do not change it. separated: punctuation stands between."""
    content = [word for word in words if word not in HARMLESS]
    if not content:
        # "From 1990 on" is not 1990.
        return not words or words[-1] not in _PREPOSITIONS
    if words[0] in _JOINING or (words[0] == "的" and _is_han_name(gold_words)):
        return False
    if question.ends_with(words) and (len(words) > 2 or not _is_han_name(gold_words)):
        return True
    linked = separated or words[0] in HARMLESS
    if not all(question.is_harmless(word) or ((linked or i) and word in POINTERS) for i, word in enumerate(words)):
        return False
    if linked or number_tokens(gold_words):
        return True
    return not _is_han_name(gold_words) and len(content) > 1
