"""LongBench v1's question answering: token F1 as SQuAD defines it (arXiv 1606.05250, 2308.14508), and a strict rule.

Official (github.com/THUDM/LongBench, metrics.py): lower case, ASCII punctuation deleted, the articles a, an and the
replaced by a space, and the F1 of the multisets of words; the best over the accepted answers. Its quirks: verbosity
costs ("The answer is Paris." has 0.5 against "Paris"), "2-3" equals "23", accents do not fold, and a gold answer of
articles only can never be matched.

Here the text after the last `</think>` is compared, which is all of it where there was no reasoning.
"""

from __future__ import annotations

import re
import string
from collections import Counter

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import after_think, golds_of, is_right, stated_answer

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def squad_words(text: str) -> list[str]:
    """The words of a text as SQuAD normalizes it.

    >>> squad_words("The U.S.A.'s 2-3 cities")
    ['usas', '23', 'cities']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def token_f1(text: str, gold: str) -> float:
    """F1 of the multisets of words, in [0, 1]; 0 when either is empty."""
    words, gold_words = squad_words(text), squad_words(gold)
    shared = (Counter(words) & Counter(gold_words)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(words), shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def squad_f1(text: str, row: Row) -> Outcome:
    """LongBench v1's official F1: the best over the accepted answers."""
    answer = after_think(text).strip()
    return Outcome(max(token_f1(answer, gold) for gold in golds_of(row)), answer)


def squad_f1_strict(text: str, row: Row) -> Outcome:
    """Whether the stated answer is one of the accepted ones and nothing else that makes a claim: 1 or 0.

    F1 cannot be repaired for verbosity without paying for lists of candidates, so this rule has no partial credit.
    """
    answer = stated_answer(text)
    return Outcome(float(is_right(answer, row)), answer)
