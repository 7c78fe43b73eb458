"""ROUGE-L as in GoLongRL's released code, which uses the package `rouge`; for `paper_exact` only.

It is the summary-level measure on *sets* of words. Texts are split into sentences at full stops and into words at
spaces (Chinese text into jieba's words). For each pair of a reference sentence and a summary sentence, the words of one
longest common subsequence are collected. The number of different words collected is divided by the number of different
words in the reference (recall) and in the summary (precision).

The choice among several longest subsequences changes the result, so they are traced as in the package: from the end,
going back in the summary unless only going back in the reference keeps the length. Two things differ. The rows of the
table are bit vectors, so long texts are fast. And the trace is a loop: the package recurses and fails on sentences of
some thousand words, which the released code then scores 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence


def released_rouge_l(summary: str, reference: str, *, chinese: bool) -> float:
    """ROUGE-L of two texts in [0, 1]; 0 when either is empty."""
    summary_sentences, reference_sentences = (
        _sentences(summary, chinese=chinese),
        _sentences(reference, chinese=chinese),
    )
    if not summary_sentences or not reference_sentences:
        return 0.0
    collected: set[str] = set()
    for expected in reference_sentences:
        for sentence in summary_sentences:
            collected |= _common_words(expected, sentence)
    precision = len(collected) / len(_words(summary_sentences))
    recall = len(collected) / len(_words(reference_sentences))
    return 2 * precision * recall / (precision + recall + 1e-8)


def _sentences(text: str, *, chinese: bool) -> set[tuple[str, ...]]:
    """The different sentences of a text, as words."""
    text = " ".join(text.lower().split())
    if chinese:
        # Imported here because loading its dictionary takes a second.
        import jieba

        jieba.setLogLevel(logging.WARNING)
        text = " ".join(jieba.cut(text))
    return {tuple(" ".join(sentence.split()).split(" ")) for sentence in text.split(".") if sentence}


def _words(sentences: Iterable[Sequence[str]]) -> set[str]:
    return {word for sentence in sentences for word in sentence}


def _common_words(expected: Sequence[str], sentence: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence."""
    rows = _rows(expected, sentence)
    common: set[str] = set()
    i, j = len(expected), len(sentence)
    while i and j:
        if expected[i - 1] == sentence[j - 1]:
            common.add(expected[i - 1])
            i, j = i - 1, j - 1
        elif _length(rows[i - 1], j) > _length(rows[i], j - 1):
            i -= 1
        else:
            j -= 1
    return common


def _rows(expected: Sequence[str], sentence: Sequence[str]) -> list[int]:
    """Row i marks, as zero bits, the words of `sentence` at which the longest common subsequence with `expected[:i]`
    grows by one (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004)."""
    positions: dict[str, int] = {}
    for j, word in enumerate(sentence):
        positions[word] = positions.get(word, 0) | 1 << j
    everything = (1 << len(sentence)) - 1
    rows = [everything]
    for word in expected:
        row = rows[-1]
        matching = row & positions.get(word, 0)
        rows.append((row + matching | row - matching) & everything)
    return rows


def _length(row: int, j: int) -> int:
    """The length of the longest common subsequence with the first j words."""
    return j - (row & (1 << j) - 1).bit_count()
