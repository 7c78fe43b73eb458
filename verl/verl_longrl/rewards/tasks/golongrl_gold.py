"""Read the gold answer of a GoLongRL row, released or ours.

A released row holds one struct for all tasks, {doc_ids, golden_label, summary}: `doc_ids` are the items or references,
`golden_label` is the answer or the table, and `summary` is the language ("English" or "Chinese"), not a summary. Our
own rows hold a text, a list of texts, or a table. Values may be numpy arrays, as parquet readers return them. A row
that asks for nothing raises GoldError: the row is at fault, so it must never count as a wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl_longrl.rewards.registry import GoldError

_RELEASED = ("doc_ids", "golden_label")


def gold_items(ground_truth: Any) -> list[str]:
    """The items of a list, in order: a released row's doc_ids, a list of texts, or the lines of a text."""
    truth = _plain(ground_truth)
    if _is_released(truth):
        truth = truth.get("doc_ids") or truth.get("golden_label")
    if isinstance(truth, str):
        truth = truth.split("\n")
    items = [str(item) for item in truth if str(item).strip()] if isinstance(truth, list) else []
    if not items or any(isinstance(item, (list, dict)) for item in truth):
        raise _no_gold(ground_truth, "a list of texts, or a text with one item on each line")
    return items


def gold_references(ground_truth: Any) -> list[str]:
    """The reference summaries: a released row's doc_ids, a list of texts, or a single text."""
    truth = _plain(ground_truth)
    return gold_items([truth] if isinstance(truth, str) else truth)


def gold_label(ground_truth: Any) -> Any:
    """One answer or a list of accepted ones: a released row's golden_label or first doc_id, or the value itself."""
    truth = _plain(ground_truth)
    if _is_released(truth):
        items = truth.get("doc_ids")
        truth = truth.get("golden_label") or (next(iter(items), None) if isinstance(items, list) else items)
    if truth is None or (isinstance(truth, str) and not truth.strip()):
        raise _no_gold(ground_truth, "a non-empty answer, or a list of them")
    return truth


def gold_first(ground_truth: Any) -> list[str]:
    """The answers accepted in the first line: a list of texts, or the first item of anything else."""
    items = gold_items(ground_truth)
    truth = _plain(ground_truth)
    return items if isinstance(truth, list) else items[:1]


def gold_language(ground_truth: Any, extra_info: Mapping[str, Any]) -> str:
    """The language that the row names, "Chinese" or "English"."""
    truth = _plain(ground_truth)
    language = truth.get("summary") if _is_released(truth) else extra_info.get("language")
    return "Chinese" if language in ("Chinese", "zh") else "English"


def _is_released(truth: Any) -> bool:
    return isinstance(truth, dict) and any(field in truth for field in _RELEASED)


def _plain(value: Any) -> Any:
    """`value` in plain Python types. Of a list of released structs, the last one counts, as in the released code."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return items[-1] if items and _is_released(items[-1]) else items
    return value


def _no_gold(ground_truth: Any, expected: str) -> GoldError:
    expected = f"{expected}, or a released row's {{doc_ids, golden_label, summary}}"
    return GoldError(ground_truth, "asks for nothing", expected)
