"""Read questions with their evidence in the layouts in which data sets publish them.

A layout says which fields hold the answers and the evidence. Sets are read as downloaded or from the Hugging Face hub:
HotpotQA, 2WikiMultihopQA and MuSiQue (LoongRL's three sources), SQuAD, Natural Questions and QASPER; any other set from
plain JSON Lines. Unlike LoongRL's own readers, these keep the aliases of an answer, the evidence, and a space between
two sentences. A row without a usable question is yielded as a `CorpusError` or as `Skipped`, so that every row is
accounted for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data_gen.document_readers import CorpusError, read_records, row_name
from data_gen.question_readers.fields import Row, describe, get_field, list_fields, parse_json
from data_gen.question_readers.generic import read_generic_answers, read_generic_passages
from data_gen.question_readers.multi_hop import (
    read_aliases,
    read_answers,
    read_musique_passages,
    read_titled_passages,
)
from data_gen.question_readers.natural_questions import read_natural_question
from data_gen.question_readers.qasper import is_paper, qasper_rows, read_qasper
from data_gen.question_readers.question import AnnotatedQuestion, Layout, NotAsked, QuestionPassage, Skipped
from data_gen.question_readers.squad import read_squad, squad_rows
from data_gen.text import digest

NEEDS: dict[str, str] = {
    "hotpotqa": "question, answer, context as [[title, [sentence, ...]], ...], supporting_facts as [[title, n], ...]",
    "2wikimultihopqa": "the fields of hotpotqa and evidences",
    "musique": "question, answer, paragraphs as [{title, paragraph_text, is_supporting}, ...]",
    "squad": "question, context, answers as {text, answer_start}, or articles with paragraphs and qas",
    "natural_questions": "question_text, document_text or document_tokens, annotations with ranges of tokens",
    "qasper": "full_text as [{section_name, paragraphs}, ...], qas with answers and evidence",
    "generic": "question, answer or answers, passages (if any) as [text or {title, text, gold}, ...], evidence",
}
"""The fields by which a layout is recognised. Rows of each may also have an id. Those of the multi-hop sets and of the
generic layout may have aliases in answer_aliases or aliases; those of 2WikiMultihopQA are in another file
(`alias_file`), by answer_id."""


def read_questions(path: str | Path, layout: Layout = "auto") -> Iterator[AnnotatedQuestion | Skipped | CorpusError]:
    """The rows of a .json, .jsonl (both also .gz) or .parquet file, in order, each as a question or the reason why not.

    Layout "auto" is the one that fits the first object's fields; if no layout does, that error ends the file. Texts are
    stripped, and lose carriage returns before newlines. A question without an id gets a digest of its text as its id.

    Raises:
        CorpusError: there is no such layout.
    """
    if layout != "auto" and layout not in NEEDS:
        raise CorpusError(f"layout {layout!r}: expected auto, {', '.join(NEEDS)}")
    return _read_file(Path(path), layout)


def layout_of(row: Row) -> Layout:
    """The layout that fits the fields of a row.

    Raises:
        CorpusError: no layout fits; the message names the row's fields and those of each layout.
    """
    if row.keys() & {"document_text", "document_tokens", "document"} and "annotations" in row:
        return "natural_questions"
    if "question" in row:
        if "context" in row and isinstance(_context(row), (dict, list)):
            return "2wikimultihopqa" if row.keys() & {"evidences", "evidences_id", "answer_id"} else "hotpotqa"
        if "paragraphs" in row:
            return "musique"
        if row.keys() & {"answer", "answers"} and "context" not in row:
            return "generic"
        if "context" in row and (isinstance(row.get("answers"), dict) or _has_positions(row.get("answers"))):
            return "squad"
    elif isinstance(row.get("data"), list) or isinstance(row.get("paragraphs"), list):
        return "squad"
    elif is_paper(row) or (row and all(map(is_paper, row.values()))):
        return "qasper"
    layouts = "; ".join(f"{layout} has {fields}" for layout, fields in NEEDS.items())
    raise CorpusError(f"no layout fits {list_fields(row)} ({layouts}). Fix: rename the fields, or name a layout")


def _context(row: Row) -> object:
    """The context, parsed if it may be a list as JSON text; a paragraph need not be parsed."""
    value = row["context"]
    return parse_json(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value


def _has_positions(answers: object) -> bool:
    return isinstance(answers, list) and all(isinstance(item, dict) and "answer_start" in item for item in answers)


def _read_file(file: Path, layout_option: Layout) -> Iterator[AnnotatedQuestion | Skipped | CorpusError]:
    layout = layout_option
    aliases: dict[str, list[str]] | None = None
    for number, record in enumerate(read_records(file)):
        where = f"{file}: {row_name(file, number)}"
        if isinstance(record, CorpusError):
            yield record
        elif not isinstance(record, dict):
            yield CorpusError(
                f"{where}: found {describe(record)}, expected an object with a question. Fix: correct or remove it"
            )
        else:
            try:
                if layout == "auto":
                    layout = layout_of(record)
            except CorpusError as error:
                yield CorpusError(f"{where}: {error}")
                return
            if layout == "2wikimultihopqa" and aliases is None:
                aliases = read_aliases(file)
            yield from _read_record(record, where, layout, aliases or {}, auto=layout_option == "auto")


def _read_record(
    record: Row, where: str, layout: Layout, aliases: Mapping[str, list[str]], auto: bool
) -> Iterator[AnnotatedQuestion | Skipped | CorpusError]:
    """The questions of a record: one, or all those of an article, a paper or a file."""
    rows: Iterator[tuple[str, Row | CorpusError]] = iter([("", record)])
    if layout in _NESTED:
        rows = _NESTED[layout](record)
    for within, row in rows:
        place = f"{where}: {within}" if within else where
        try:
            if isinstance(row, CorpusError):
                raise row
            if auto and layout == "generic" and (other := row.keys() & {"context", "paragraphs"}):
                raise CorpusError(f"{min(other)}: the file's first row lacks this field, so it would be ignored")
            yield _read_row(row, place, layout, aliases)
        except NotAsked as reason:
            yield Skipped(place, str(reason))
        except CorpusError as error:
            fix = "" if "Fix: " in str(error) else ". Fix: correct or remove the row"
            how = " (chosen by auto)" if auto else ""
            yield CorpusError(f"{place}: {error}{fix}; layout {layout}{how} has {NEEDS[layout]}")


_NESTED = {"squad": squad_rows, "qasper": qasper_rows}
"""Layout -> the questions in a record, for layouts whose records may have several."""


def _read_row(row: Row, where: str, layout: Layout, aliases: Mapping[str, list[str]]) -> AnnotatedQuestion:
    """The question in a row. Raises CorpusError, and NotAsked when the row has no answerable question."""
    unplaced: Sequence[str] = ()
    group = ""
    passages: Sequence[QuestionPassage]
    if layout == "natural_questions":
        question, answers, passage = read_natural_question(row)
        passages = [passage]
    else:
        if layout == "musique":
            # Before its question, which a row without an answer need not have.
            passages = list(read_musique_passages(row))
        question = get_field(row, "question", str)
        if layout == "squad":
            answers, passage = read_squad(row)
            passages, group = [passage], passage.title
        elif layout == "qasper":
            answers, passage, unplaced = read_qasper(row)
            passages = [passage]
        elif layout == "generic":
            passages = read_generic_passages(row)
            answers = read_generic_answers(row)
        elif layout == "musique":
            answers = read_answers(row, aliases)
        else:
            passages, unplaced = read_titled_passages(row)
            answers = read_answers(row, aliases)
    return AnnotatedQuestion(
        id=_id(row) or digest(question).hex(),
        question=question,
        answers=answers,
        passages=tuple(passages),
        where=where,
        layout=layout,
        comparison="comparison" in str(row.get("type")),
        group=group,
        unplaced=tuple(unplaced),
    )


def _id(row: Row) -> str:
    field = next((name for name in ("_id", "id", "example_id") if row.get(name) is not None), "id")
    value = row.get(field)
    number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if number else get_field(row, field, str, default="", empty=True)
