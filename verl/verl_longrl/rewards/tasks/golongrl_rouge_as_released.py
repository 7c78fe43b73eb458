"""ROUGE-L as GoLongRL's released code has it, from the package `rouge`: for `paper_exact` only.

It is the summary-level measure on *sets* of words. Texts are cut into sentences at full stops and into words at spaces
(of Chinese text into jieba's words). Of every pair of a reference's and a summary's sentence the words of one longest
common subsequence are collected, and the number of different words collected is divided by the numbers of different
words in the reference (recall) and in the summary (precision).

Which of several longest subsequences is taken shows in the result, so they are traced here as there: from the end,
going back in the summary unless only going back in the reference keeps the length. Two things differ. The rows of the
table are bit vectors, so long texts are quick; and the trace is a loop: the package recurses, and fails on sentences of
some thousand words, which the released code then scores 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence


def released_rouge_l(summary: str, reference: str, *, chinese: bool) -> float:
    """ROUGE-L of two texts in [0, 1]; 0 when either is empty."""
    mine, theirs = (_sentences(text, chinese=chinese) for text in (summary, reference))
    if not mine or not theirs:
        return 0.0
    collected: set[str] = set()
    for wanted in theirs:
        for said in mine:
            collected |= _common_words(wanted, said)
    precision, recall = len(collected) / len(_words(mine)), len(collected) / len(_words(theirs))
    return 2 * precision * recall / (precision + recall + 1e-8)


def _sentences(text: str, *, chinese: bool) -> set[tuple[str, ...]]:
    """The different sentences of a text, as words."""
    text = " ".join(text.lower().split())
    if chinese:
        import jieba  # a second to load its dictionary

        jieba.setLogLevel(logging.WARNING)
        text = " ".join(jieba.cut(text))
    return {tuple(" ".join(sentence.split()).split(" ")) for sentence in text.split(".") if sentence}


def _words(sentences: Iterable[Sequence[str]]) -> set[str]:
    return {word for sentence in sentences for word in sentence}


def _common_words(wanted: Sequence[str], said: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence."""
    rows = _rows(wanted, said)
    found: set[str] = set()
    i, j = len(wanted), len(said)
    while i and j:
        if wanted[i - 1] == said[j - 1]:
            found.add(wanted[i - 1])
            i, j = i - 1, j - 1
        elif _length(rows[i - 1], j) > _length(rows[i], j - 1):
            i -= 1
        else:
            j -= 1
    return found


def _rows(wanted: Sequence[str], said: Sequence[str]) -> list[int]:
    """Row i says at which words of `said` the longest subsequence it has in common with `wanted[:i]` grows by one: the
    zero bits (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004)."""
    at: dict[str, int] = {}
    for j, word in enumerate(said):
        at[word] = at.get(word, 0) | 1 << j
    everything = (1 << len(said)) - 1
    rows = [everything]
    for word in wanted:
        row = rows[-1]
        matching = row & at.get(word, 0)
        rows.append((row + matching | row - matching) & everything)
    return rows


def _length(row: int, j: int) -> int:
    """The length of the longest common subsequence with the first j words."""
    return j - (row & (1 << j) - 1).bit_count()
