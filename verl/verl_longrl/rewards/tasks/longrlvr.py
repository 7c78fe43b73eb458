"""LongRLVR: reward the answer, and verifiably reward finding the evidence (arXiv 2603.02146, sections 2, 3).

    reward = A + eta * F + (1 - eta) * A * F

A: answer correctness. F: F_beta of the cited chunks against the evidence. eta = 0.1, beta = 2. The middle
term pays for evidence alone, so its gradient does not vanish while answers are still wrong (Proposition 2);
the last one pays fully only for both. Range [0, 2] for A in [0, 1].

Chunks are sets: citing one twice changes nothing. `paper_exact` counts duplicates in precision's denominator
only, as the released code does. A malformed response earns 0. `method=outcome_only` is the plain-RLVR
baseline: reward = A, with the context parts still reported. An id the document does not have is a false
positive like any other and is counted in the part `outside` when `extra_info.num_chunks` says how many chunks
there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from verl_longrl.rewards.matching.answer_match import correctness, gold_answers
from verl_longrl.rewards.matching.response_format import parse_grounded
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score


class FBeta(NamedTuple):
    """Agreement of cited chunks with the evidence, all in [0, 1]."""

    precision: float
    recall: float
    f: float


def f_beta(cited: Sequence[int] | Collection[int], evidence: Collection[int], beta: float,
           *, count_duplicates: bool = False) -> FBeta:  # fmt: skip
    """Precision, recall and F_beta = (1 + beta^2) P R / (beta^2 P + R) of ids as sets; 0 when nothing is
    shared.

    count_duplicates: a repeated citation enlarges precision's denominator (the released treatment). Raises
    ValueError when there is no evidence: recall is undefined, the row is wrong.
    """
    wanted = set(evidence)
    if not wanted:
        raise ValueError("evidence is empty, so recall is undefined; expected at least one chunk id in ref_chunks")
    shared = len(wanted.intersection(cited))
    if not shared:
        return FBeta(0.0, 0.0, 0.0)
    precision = shared / (len(cited) if count_duplicates else len(set(cited)))
    recall = shared / len(wanted)
    return FBeta(precision, recall, (1 + beta**2) * precision * recall / (beta**2 * precision + recall))


def grounded_reward(answer: float, f: float, eta: float) -> float:
    """A + eta * F + (1 - eta) * A * F (paper section 3)."""
    return answer + eta * f + (1 - eta) * answer * f


def evidence_chunks(extra_info: Mapping[str, Any]) -> list[int]:
    """`extra_info.ref_chunks` as ints. Raises ValueError with the value and the fix when it is not a list of
    ids."""
    value: Any = extra_info.get("ref_chunks")
    ids = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(ids, (list, tuple)) or not ids or not all(type(i) is int and i >= 0 for i in ids):
        raise ValueError(
            f"extra_info.ref_chunks = {value!r}; expected a non-empty list of chunk ids such as [3, 17]. "
            "Check the file with python -m verl_longrl.data.validate"
        )
    return list(ids)


@scorer("longrlvr", patterns=("longrlvr_*",), gold=lambda truth, _: gold_answers(truth))
def longrlvr(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a grounded answer; `ground_truth` is the answer or a list of accepted ones."""
    evidence = evidence_chunks(extra_info)
    parsed = parse_grounded(response, require_think=options.require_think, paper_exact=options.paper_exact)
    if parsed.error:
        return Score(0.0, {}, "format_error", parsed.error)
    agreement = f_beta(parsed.cited, evidence, options.beta, count_duplicates=options.paper_exact)
    answer = correctness(parsed.answer, ground_truth, options)
    num_chunks = extra_info.get("num_chunks")
    distinct = set(parsed.cited)
    parts = {
        "answer": answer,
        "context": agreement.f,
        "recall": agreement.recall,
        "precision": agreement.precision,
        "format": 1.0,
        "cited": float(len(distinct)),
        "outside": 0.0 if num_chunks is None else float(sum(i >= num_chunks for i in distinct)),
    }
    value = grounded_reward(answer, agreement.f, options.eta) if options.method == "longrlvr" else answer
    return Score(value, parts, candidate=parsed.answer)
