"""AA-LCR's rows, from the wheel that PyPI has."""

import statistics
from collections import Counter

from support.eval_wheels import require_wheels

from recipe.longrl.evaluation import sources
from recipe.longrl.evaluation.benchmarks.registry import REGISTRY


def test_rows_are_the_hundred_questions_over_thirty_sets_of_documents():
    require_wheels(sources.AA_LCR)
    rows = list(REGISTRY["aa_lcr"].rows())
    assert len(rows) == len({row.id for row in rows}) == 100
    clusters = Counter(row.cluster for row in rows)
    assert (len(clusters), max(clusters.values())) == (30, 12)
    assert 2 <= min(row.meta["documents"] for row in rows) < max(row.meta["documents"] for row in rows) == 24
    assert 400_000 < statistics.mean(row.meta["characters"] for row in rows) < 430_000
    for row in rows:
        prompt = row.messages[0]["content"]
        assert prompt.startswith("BEGIN INPUT DOCUMENTS\n\nBEGIN DOCUMENT 1:\n")
        assert prompt.endswith(f"\n\nSTART QUESTION\n\n{row.meta['question'].strip()}\n\nEND QUESTION\n")
        assert REGISTRY["aa_lcr"].rules["strict"]("", row).score == 0.0
