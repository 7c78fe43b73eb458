"""The layouts of QASPER: papers with sections, and questions whose evidence is whole paragraphs of the paper.

A file is as released (an object of papers by id), or has a paper per row, as on the hub. A paper is one passage: its
abstract and its sections, paragraphs separated by empty lines. Answers are extracted (several parts are joined with
commas), written freely, yes or no. Evidence in figures and tables is not in the text, and reported as such.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_gen.document_readers import CorpusError
from data_gen.question_readers.annotations import Annotation, combine
from data_gen.question_readers.fields import Row, checked, clean, get_field, read_objects, read_texts
from data_gen.question_readers.question import NotAsked, QuestionPassage, Span, merge_spans


def is_paper(value: Any) -> bool:
    """Whether a value is an object with the fields of a paper."""
    return isinstance(value, dict) and value.keys() >= {"full_text", "qas"}


def qasper_rows(record: Row) -> Iterator[tuple[str, Row | CorpusError]]:
    """The questions of the papers in a record, each with its paper and its place in the record, or the problem with a
    paper."""
    papers = {"": record} if "qas" in record else record
    for name, paper in papers.items():
        try:
            for number, asked in enumerate(read_objects(checked(paper, dict, "paper"), "qas")):
                row = {**asked, "paper": paper, "id": asked.get("question_id")}
                yield f"{name}.qas[{number}]".lstrip("."), row
        except CorpusError as error:
            yield name, error


def read_qasper(row: Row) -> tuple[tuple[str, ...], QuestionPassage, tuple[str, ...]]:
    """Answers, paper and missing evidence of a question. Raises NotAsked when it has no answer."""
    text, paragraphs = _full_text(row["paper"])
    annotations = []
    for number, item in enumerate(read_objects(row, "answers")):
        place = f"answers[{number}].answer"
        # On the hub an annotator's answer is the item itself, as the wrapping object has become columns.
        answer = checked(item.get("answer", item), dict, place)
        if get_field(answer, "unanswerable", bool, place, default=False):
            continue
        yes_no = answer.get("yes_no")
        extracted = read_texts(answer, "extractive_spans", empty=True)
        written = checked(answer.get("free_form_answer") or "", str, f"{place}.free_form_answer", empty=True)
        wording = ("yes" if yes_no else "no") if isinstance(yes_no, bool) else ", ".join(filter(None, extracted))
        if not (wording := wording or written):
            continue
        spans, unplaced = _find_all(read_texts(answer, "evidence", empty=True), text, paragraphs)
        annotations.append(Annotation(wording, merge_spans(text, spans), isinstance(yes_no, bool), tuple(unplaced)))
    answers, first = combine(annotations)
    if not first.evidence and not first.unplaced:
        raise NotAsked("no_evidence")
    title = checked(row["paper"].get("title") or "", str, "title", empty=True)
    return answers, QuestionPassage(title, text, bool(first.evidence), first.evidence), first.unplaced


def _full_text(paper: Row) -> tuple[str, dict[str, list[Span]]]:
    """The text of a paper, and the spans of each paragraph by its wording."""
    parts = [clean(str(paper.get("abstract") or ""))]
    for number, section in enumerate(read_objects(paper, "full_text")):
        place = f"full_text[{number}]"
        parts.append(checked(section.get("section_name") or "", str, f"{place}.section_name", empty=True))
        parts += read_texts(section, "paragraphs", empty=True)
    text, spans = "", dict[str, list[Span]]()
    for part in filter(None, parts):
        text += "\n\n" * bool(text)
        spans.setdefault(part, []).append((len(text), len(text) + len(part)))
        text += part
    return checked(text, str, "full_text"), spans


def _find_all(wordings: list[str], text: str, paragraphs: dict[str, list[Span]]) -> tuple[list[Span], list[str]]:
    """The spans of evidence that is in the text once, as a paragraph or within one, and the other evidence."""
    spans: list[Span] = []
    unplaced: list[str] = []
    for wording in filter(None, wordings):
        found = paragraphs.get(wording, [])
        if not found and text.count(wording) == 1:
            found = [(text.index(wording), text.index(wording) + len(wording))]
        if len(found) == 1:
            spans += found
        else:
            unplaced.append(f"evidence: {wording[:80]!r} occurs {len(found) or text.count(wording)} times in the text")
    return spans, unplaced
