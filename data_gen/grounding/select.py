"""Stage select: choose one question for each document, the best that is neither easy nor known nor contaminated.

LongRLVR's two-step rejection (best of a cluster, best of the document, score at least 9), its difficulty filter (a
question that a model answers without the document does not teach reading; one that it always answers gives no signal),
and decontamination. Every rated candidate is accounted for in the counts.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Ge, Le
from pydantic.dataclasses import dataclass
from verl_longrl.options import OptionError, Options, Share

from data_gen.config import PipelineConfig
from data_gen.decontaminate import Benchmarks, fingerprint_files, require_files
from data_gen.grounding.prompts import CRITERIA
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, dropped_row


@dataclass(frozen=True)
class SelectOptions(Options):
    """Options of stage select. The paper found that dropping easy questions helps and dropping hard ones hurts."""

    threshold: Annotated[float, Ge(0), Le(10)] = 9.0
    """Lowest score."""
    min_criterion: Annotated[float, Ge(0), Le(10)] = 0.0
    """Lowest rating of any single criterion."""
    max_closed_book: Share = 0.0
    """Highest share of right answers without the document, for the server with the most right answers."""
    min_pass_rate: Share = 0.0
    """Lowest share of right answers with the document, over all servers."""
    max_pass_rate: Share = 0.9
    """Highest share of right answers with the document, over all servers."""

    def __post_init__(self) -> None:
        if self.min_pass_rate > self.max_pass_rate:
            problem = f"expected at most max_pass_rate, {self.max_pass_rate}"
            raise OptionError("min_pass_rate", self.min_pass_rate, problem, "lower it, or raise max_pass_rate")


class SelectStage(PartStage):
    """Row: `question`, `answer`, `evidence`, `explanation`, `cluster`, `candidate`, `score`, `closed_book` and
    `pass_rate` (None if there are no such answers). Drops: below_threshold, or the objection to the best finalist:
    ungraded, answerable_closed_book, too_hard, too_easy, contaminated."""

    name = "select"
    summary = "choose the best question of each document."
    blocks: ClassVar = {"select": SelectOptions}
    after = ("generate", "judge", "answer")

    def __init__(self, options: SelectOptions, benchmarks: tuple[str, ...]):
        require_files(benchmarks)
        self.options, self.benchmark_files = options, benchmarks

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        return cls(config.block(SelectOptions), config.benchmarks)

    def settings(self) -> dict[str, Any]:
        return {"benchmarks": fingerprint_files(self.benchmark_files), **self.block_settings(self.options)}

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
            detail = f"best score {max(rating['score'] for rating in rated):g}"
            return {**dropped_row(name, "below_threshold", detail), "counts": counts}
        first_reason, selected = "", None
        for finalist in sorted(chosen, key=lambda candidate: -candidate["score"]):
            answers = next(a for a in document["answer"]["answers"] if _is_same_candidate(a, finalist))
            finalist["closed_book"] = right_share(answers["closed_book"], of_best_server=True)
            finalist["pass_rate"] = right_share(answers["with_document"], of_best_server=False)
            reason = self._objection(finalist, answers)
            if not reason and selected is None:
                selected = finalist
            first_reason = first_reason or reason
            status = reason or ("selected" if selected is finalist else "not_best_of_document")
            counts[f"candidates {status}"] += 1
        if selected is None:
            return {**dropped_row(name, first_reason), "counts": counts}
        return {"id": name, **selected, "counts": counts}

    def _objection(self, finalist: dict[str, Any], answers: dict[str, Any]) -> str:
        """The reason not to train on this question, "" if there is none."""
        closed_book, pass_rate = finalist["closed_book"], finalist["pass_rate"]
        for setting, rate in (("closed_book", closed_book), ("with_document", pass_rate)):
            if rate is None and any(answers[setting].values()):
                return "ungraded"
        if closed_book is not None and closed_book > self.options.max_closed_book:
            return "answerable_closed_book"
        if pass_rate is not None and pass_rate < self.options.min_pass_rate:
            return "too_hard"
        if pass_rate is not None and pass_rate > self.options.max_pass_rate:
            return "too_easy"
        texts = (finalist["question"], finalist["answer"], f"{finalist['question']} {finalist['answer']}")
        return "contaminated" if any(self.benchmarks.overlap(text) for text in texts) else ""


def finalists(document: Document, options: SelectOptions) -> list[dict[str, Any]]:
    """The best candidate of each cluster that passes the threshold, with its `score` and criteria; the first one of
    those with the same score."""
    candidates = [c for c in document["generate"]["candidates"] if c["status"] == "ok"]
    best: dict[int, dict[str, Any]] = {}
    for candidate, rating in zip(candidates, document["judge"]["ratings"], strict=True):
        if not _passes(rating, options):
            continue
        best_so_far = best.get(candidate["cluster"])
        if best_so_far is None or rating["score"] > best_so_far["score"]:
            scores = {name: rating[name] for name in ("score", *CRITERIA)}
            best[candidate["cluster"]] = {key: value for key, value in candidate.items() if key != "status"} | scores
    return list(best.values())


def _passes(rating: dict[str, Any], options: SelectOptions) -> bool:
    if rating["score"] is None or rating["score"] < options.threshold:
        return False
    return all(rating[name] >= options.min_criterion for name in CRITERIA)


def _is_same_candidate(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return (a["cluster"], a["candidate"]) == (b["cluster"], b["candidate"])


def right_share(answers: dict[str, list[dict[str, Any]]], of_best_server: bool) -> float | None:
    """The share of right answers among the graded ones, of the server that is right most often or over all servers;
    None if there is no graded answer. answers: server name -> answers."""
    pools = list(answers.values()) if of_best_server else [list(itertools.chain(*answers.values()))]
    shares = []
    for pool in pools:
        graded = [answer["correct"] for answer in pool if answer["correct"] is not None]
        if graded:
            shares.append(sum(graded) / len(graded))
    return max(shares, default=None)
