"""Stage select: one question for each document, the best that is neither easy nor known nor contaminated.

LongRLVR's two-step rejection (best of a cluster, best of the document, score at least 9), its difficulty filter (what a
model answers without the document teaches no reading; what it always answers gives no signal), and decontamination.
Every candidate that was rated is accounted for in the counts.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verl_longrl.rewards.options import Options, number

from data_gen.decontaminate import Benchmarks, fingerprints, require
from data_gen.grounding.prompts import CRITERIA
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, drop


@dataclass(frozen=True)
class SelectOptions(Options):
    """threshold: least score. min_criterion: least of every single criterion. max_closed_book: highest share of right
    answers without the document, of the server that is best at it. min_pass_rate, max_pass_rate: bounds of the share of
    right answers with the document, over all servers. The paper found that dropping easy questions helps and dropping
    hard ones hurts."""

    threshold: float = 9.0
    min_criterion: float = 0.0
    max_closed_book: float = 0.0
    min_pass_rate: float = 0.0
    max_pass_rate: float = 0.9

    def __post_init__(self) -> None:
        for name in ("threshold", "min_criterion"):
            number(f"select.{name}", getattr(self, name), 0, 10)
        for name in ("max_closed_book", "min_pass_rate", "max_pass_rate"):
            number(f"select.{name}", getattr(self, name), 0, 1)
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(f"select.min_pass_rate = {self.min_pass_rate} is above its maximum, {self.max_pass_rate}")


class Select(PartStage):
    """Row: `question`, `answer`, `evidence`, `explanation`, `cluster`, `candidate`, `score`, `closed_book` and
    `pass_rate` (None where not asked). Drops: below_threshold, or what kept the best finalist out: ungraded,
    answerable_closed_book, too_hard, too_easy, contaminated."""

    name = "select"
    after = ("generate", "judge", "answer")

    def __init__(self, options: SelectOptions, benchmarks: tuple[str, ...]):
        require(benchmarks)
        self.options, self.benchmark_files = options, benchmarks

    def settings(self) -> dict[str, Any]:
        return {"benchmarks": fingerprints(self.benchmark_files), **self.named(self.options)}

    def open(self, store: Store) -> None:
        self.benchmarks = Benchmarks(self.benchmark_files)

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        for document in documents:
            yield self._row(document)

    def _row(self, document: Document) -> Row:
        name = document["judge"]["id"]
        rated = [rating for rating in document["judge"]["ratings"] if rating["score"] is not None]
        chosen = finalists(document, self.options)
        passed = sum(_passes(rating, self.options) for rating in rated)
        counts = Counter(
            {
                "candidates below_threshold": len(rated) - passed,
                "candidates not_best_of_cluster": passed - len(chosen),
            }
        )
        if not chosen:
            return {**drop(name, "below_threshold", f"best score {max(r['score'] for r in rated):g}"), "counts": counts}
        first_reason, selected = "", None
        for finalist in sorted(chosen, key=lambda candidate: -candidate["score"]):
            answers = next(a for a in document["answer"]["answers"] if _same(a, finalist))
            finalist |= {way: share(answers[key], most) for way, key, most in _SHARES}
            reason = self._objection(finalist, answers)
            if not reason and selected is None:
                selected = finalist
            first_reason = first_reason or reason
            status = reason or ("selected" if selected is finalist else "not_best_of_document")
            counts[f"candidates {status}"] += 1
        if selected is None:
            return {**drop(name, first_reason), "counts": counts}
        return {"id": name, **selected, "counts": counts}

    def _objection(self, finalist: dict[str, Any], answers: dict[str, Any]) -> str:
        """Why this question is not for training, "" when it is."""
        closed_book, pass_rate = finalist["closed_book"], finalist["pass_rate"]
        for way, rate in (("closed_book", closed_book), ("with_document", pass_rate)):
            if rate is None and any(answers[way].values()):
                return "ungraded"
        if closed_book is not None and closed_book > self.options.max_closed_book:
            return "answerable_closed_book"
        if pass_rate is not None and pass_rate < self.options.min_pass_rate:
            return "too_hard"
        if pass_rate is not None and pass_rate > self.options.max_pass_rate:
            return "too_easy"
        texts = (finalist["question"], finalist["answer"], f"{finalist['question']} {finalist['answer']}")
        return "contaminated" if any(self.benchmarks.overlap(text) for text in texts) else ""


_SHARES = (("closed_book", "closed_book", True), ("pass_rate", "with_document", False))


def finalists(document: Document, options: SelectOptions) -> list[dict[str, Any]]:
    """The best candidate of each cluster that passes the threshold, with its `score` and criteria; the first of
    equals."""
    candidates = [c for c in document["generate"]["candidates"] if c["status"] == "ok"]
    best: dict[int, dict[str, Any]] = {}
    for candidate, rating in zip(candidates, document["judge"]["ratings"], strict=True):
        if not _passes(rating, options):
            continue
        found = best.get(candidate["cluster"])
        if found is None or rating["score"] > found["score"]:
            scores = {name: rating[name] for name in ("score", *CRITERIA)}
            best[candidate["cluster"]] = {key: value for key, value in candidate.items() if key != "status"} | scores
    return list(best.values())


def _passes(rating: dict[str, Any], options: SelectOptions) -> bool:
    if rating["score"] is None or rating["score"] < options.threshold:
        return False
    return all(rating[name] >= options.min_criterion for name in CRITERIA)


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return (a["cluster"], a["candidate"]) == (b["cluster"], b["candidate"])


def share(samples: dict[str, list[dict[str, Any]]], most: bool) -> float | None:
    """The share of right answers among the graded ones: of the best server (`most`), or over all. None without any."""
    pools = list(samples.values()) if most else [list(itertools.chain(*samples.values()))]
    graded = [[answer["correct"] for answer in pool if answer["correct"] is not None] for pool in pools]
    return max((sum(pool) / len(pool) for pool in graded if pool), default=None)
