"""Helpers of all importers: read a row's fields as clean text, and prove that its answer earns the reward.

A row that cannot be used raises `Unusable` with a reason to count it by; it never becomes an incomplete sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from verl_longrl.data.schema import GroundTruth, Message, Sample
from verl_longrl.rewards import score

from data_gen.answer_templates import render_response
from data_gen.multitask.computed_tasks import ABILITIES


class Unusable(ValueError):
    """A row that cannot become a training sample. `reason`: a name to count it by; the message shows the value."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def required_text(row: Mapping[str, Any], *fields: str) -> str:
    """The first of these fields that the row has, as text; numbers count as text. Raises Unusable (no_FIELD) when it is
    missing, empty or of another type."""
    field = next((field for field in fields if row.get(field) is not None), fields[0])
    value = clean(row.get(field))
    if not value:
        raise Unusable(
            f"no_{fields[0].casefold()}", f"{field} is {short(row.get(field))}, expected text ({describe_fields(row)})"
        )
    return value


def clean(value: Any) -> str:
    """A text or number in a form that can be written to a file; "" for anything else, including nan. Lone surrogates
    become "?"."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value != value:
        return ""
    return str(value).replace("\r\n", "\n").encode("utf-8", "replace").decode().strip()


def describe_fields(row: Mapping[str, Any]) -> str:
    """The row's fields, for a message."""
    more = f" and {len(row) - 12} more" if len(row) > 12 else ""
    return f"fields found: {', '.join(list(row)[:12])}{more}" if row else "the row has no fields"


def language_of(row: Mapping[str, Any]) -> str:
    """ "Chinese" or "English", by the row's `language`; English where it has none."""
    return "Chinese" if clean(row.get("language")) in ("Chinese", "zh") else "English"


def long_sample(task: str, prompt: list[Message], truth: GroundTruth, question: str, row: Mapping[str, Any]) -> Sample:
    """The sample of a row with a long prompt; `task` is the data source of one of GoLongRL's tasks."""
    return Sample(
        data_source=task,
        prompt=prompt,
        ground_truth=truth,
        index=0,
        question=question,
        task=task,
        ability=ABILITIES[task.removeprefix("golongrl_")],
        payload={"language": language_of(row)},
    )


def prove_sample(sample: Sample, answer: Any, language: str = "English") -> Sample:
    """Return the sample if this answer, given as its prompt asks, earns the full reward from the sample's own scorer.

    Raises:
        Unusable: (unscorable) it does not, so no response could earn it.
    """
    scored = score(sample.data_source, render_response(sample.data_source, answer, language), sample.ground_truth)
    if scored.value != 1.0:
        why = f": {scored.reason}" if scored.reason else ""
        raise Unusable(
            "unscorable", f"the answer {short(answer)} earns {scored.value:g} as {sample.data_source}, not 1{why}"
        )
    return sample
