"""The figures of judges: the share that each decided, and how far two of them agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from recipe.longrl.evaluation.judge.verdicts import DECIDED, JudgeRecord
from recipe.longrl.evaluation.statistics import kappa


def make_judge_tables(lines: Sequence[Mapping[str, Any]], rule: str, judges: Sequence[JudgeRecord]) -> dict[str, Any]:
    """The decisions of each judge, and the agreement of each two. lines: those of scores.jsonl.

    rule: the rule that decides before a judge.
    """
    return {
        "rule": rule,
        "judges": {judge.figure: _describe_judge(lines, judge) for judge in judges},
        "agreement": [_compare_judges(lines, a.figure, b.figure) for a, b in combinations(judges, 2)],
    }


def share_without_verdict(judge: Mapping[str, Any], planned: int) -> float:
    """The share of all planned answers that a judge was to decide and did not. judge: as `make_judge_tables` has it."""
    return float(judge["undecided"] + judge["no_reply"]) / planned


def _describe_judge(lines: Sequence[Mapping[str, Any]], judge: JudgeRecord) -> dict[str, Any]:
    verdicts = [line["verdicts"][judge.figure] for line in lines]
    counts = Counter(verdict["decision"] for verdict in verdicts)
    decided = sum(counts[decision] for decision in DECIDED)
    return {
        "record": judge.values,
        "decided": decided,
        "share_decided": decided / len(lines),
        "share_right": counts["right"] / decided if decided else None,
        "undecided": counts["undecided"],
        "no_reply": counts["no reply"],
        "cut": sum(bool(verdict["cut"]) for verdict in verdicts),
    }


def _compare_judges(lines: Sequence[Mapping[str, Any]], a: str, b: str) -> dict[str, Any]:
    """Agreement on the answers that both judges decided."""
    pairs = [(line, line["verdicts"][a]["decision"], line["verdicts"][b]["decision"]) for line in lines]
    pairs = [(line, of_a, of_b) for line, of_a, of_b in pairs if of_a in DECIDED and of_b in DECIDED]
    of_a, of_b = [first for _, first, _ in pairs], [second for _, _, second in pairs]
    disagreements = [
        {"row": line["row"], "sample": line["sample"], "verdicts": [first, second]}
        for line, first, second in pairs
        if first != second
    ]
    return {
        "judges": [a, b],
        "n": len(pairs),
        "share": 1 - len(disagreements) / len(pairs) if pairs else None,
        "kappa": kappa(of_a, of_b) if pairs else None,
        "disagreements": disagreements,
    }
