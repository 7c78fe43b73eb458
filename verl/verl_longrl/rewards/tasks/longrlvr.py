"""LongRLVR: reward the answer and, verifiably, the evidence that it cites (arXiv 2603.02146, sections 2 and 3).

Answer form: `<useful_chunks>` with `<CHUNK_i>`, then `<answer>`, after the reasoning.

Not seen: other chunks that prove the answer too, and whether a cited chunk was read.

    reward = A + eta * F + (1 - eta) * A * F

A is the correctness of the answer, F the F_beta of the cited chunks against the evidence (`longrlvr_f_beta.py`);
eta = 0.1 and beta = 2. The middle term rewards evidence alone, so that its gradient does not vanish while answers are
still wrong (Proposition 2); the last term pays in full only for both. The range is [0, 2] for A in [0, 1].

Chunks are compared as sets: citing one twice changes nothing. With `paper_exact`, duplicates enlarge the denominator of
precision, as in the released code. A malformed response earns 0. `method=outcome_only` is the plain RLVR baseline:
reward = A, with the context parts still reported. A chunk id that is not in the document is a false positive like any
other; the part `outside` counts these ids where `extra_info.num_chunks` says how many chunks there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.matching.answer_match import correctness, gold_answers
from verl_longrl.rewards.matching.response_format import parse_grounded
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score
from verl_longrl.rewards.tasks.longrlvr_f_beta import f_beta


def grounded_reward(answer: float, f: float, eta: float) -> float:
    """A + eta * F + (1 - eta) * A * F (paper section 3).

    >>> grounded_reward(answer=1.0, f=0.5, eta=0.1)
    1.5
    """
    return answer + eta * f + (1 - eta) * answer * f


def evidence_chunks(extra_info: Mapping[str, Any]) -> list[int]:
    """`extra_info.ref_chunks` as ints. Raises ValueError, with the value and the fix, unless it is a list of ids."""
    value: Any = extra_info.get("ref_chunks")
    ids = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(ids, (list, tuple)) or not ids or not all(type(i) is int and i >= 0 for i in ids):
        raise ValueError(
            f"extra_info.ref_chunks = {value!r}: expected a non-empty list of chunk ids such as [3, 17]. "
            "Fix: check the file with python -m verl_longrl.data.validate"
        )
    return list(ids)


@scorer("longrlvr", patterns=("longrlvr_*",), gold=lambda truth, _: gold_answers(truth))
def longrlvr(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a grounded answer; `ground_truth` is the answer or a list of accepted ones."""
    evidence = evidence_chunks(extra_info)
    parsed = parse_grounded(response, require_think=options.require_think, paper_exact=options.paper_exact)
    if parsed.error:
        return Score.format_error(parsed.error)
    agreement = f_beta(parsed.cited, evidence, options.beta, count_duplicates=options.paper_exact)
    answer = correctness(parsed.answer, ground_truth, options, extra_info=extra_info)
    num_chunks = extra_info.get("num_chunks")
    distinct = tuple(dict.fromkeys(parsed.cited))
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
    return Score(value, parts, candidate=parsed.answer, cited_ids=distinct)
