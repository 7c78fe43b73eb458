"""Combine what several annotators answered into one question: the first of them decides what kind of answer it has.

Its evidence is that of the first; answers of the same kind are accepted as well. Annotators who contradict each other
(yes and no) leave no question to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_gen.question_readers.fields import different_spellings
from data_gen.question_readers.question import NotAsked, Span


@dataclass(frozen=True)
class Annotation:
    """One annotator's answer. `evidence`: spans of the document."""

    answer: str
    evidence: tuple[Span, ...]
    yes_no: bool = False
    unplaced: tuple[str, ...] = ()


def combine(annotations: Sequence[Annotation]) -> tuple[tuple[str, ...], Annotation]:
    """The accepted answers, and the annotation whose evidence counts. Raises NotAsked."""
    if not annotations:
        raise NotAsked("unanswerable")
    # An annotator whose evidence is in the text comes before one whose evidence is, for example, in a figure.
    first = next((annotation for annotation in annotations if not annotation.unplaced), annotations[0])
    alike = [first, *(a for a in annotations if a is not first and a.yes_no == first.yes_no)]
    answers = different_spellings(annotation.answer for annotation in alike)
    if first.yes_no and len(answers) > 1:
        raise NotAsked("annotators_disagree")
    return answers, first
