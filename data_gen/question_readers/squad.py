"""The layouts of SQuAD 1 and 2: paragraphs of articles, and answers by their first character.

A file is as released (`data`, articles, `paragraphs`, `qas`), or has an article or a question per row, as on the hub.
Evidence is the answer's own characters, as the first annotator marked them; other annotators' answers are aliases.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_gen.document_readers import CorpusError
from data_gen.question_readers.fields import (
    Row,
    checked,
    describe,
    different_spellings,
    get_field,
    move_to_clean,
    read_objects,
)
from data_gen.question_readers.question import NotAsked, QuestionPassage, merge_spans


def squad_rows(record: Row) -> Iterator[tuple[str, Row | CorpusError]]:
    """The questions in a record, each as a flat row with its place in the record, or the problem with an article."""
    if "question" in record:
        yield "", record
        return
    nested = "data" in record
    try:
        articles = read_objects(record, "data") if nested else [record]
    except CorpusError as error:
        yield "", error
        return
    for number, article in enumerate(articles):
        within = f"data[{number}]" if nested else ""
        try:
            for at, paragraph in enumerate(read_objects(article, "paragraphs")):
                place = f"paragraphs[{at}]"
                for n, asked in enumerate(read_objects(paragraph, "qas", place)):
                    row = {**asked, "context": paragraph.get("context"), "title": article.get("title")}
                    yield f"{within}.{place}.qas[{n}]".lstrip("."), row
        except CorpusError as error:
            yield within, error


def read_squad(row: Row) -> tuple[tuple[str, ...], QuestionPassage]:
    """Answers and passage of a flat row. Raises NotAsked when the set says that it cannot be answered."""
    context = get_field(row, "context", str)
    # The positions of answers are those in the text as it was written.
    raw = row["context"]
    answers = [] if get_field(row, "is_impossible", bool, default=False) else read_objects(row, "answers")
    if not answers:
        raise NotAsked("unanswerable")
    texts, spans = [], []
    for number, answer in enumerate(answers):
        place = f"answers[{number}]"
        texts.append(get_field(answer, "text", str, place))
        start = get_field(answer, "answer_start", int, place)
        end = start + len(answer["text"])
        if start < 0 or raw[start:end] != answer["text"]:
            found = describe(raw[start:end] if start >= 0 else start)
            raise CorpusError(f"{place}.answer_start: the text at {start} is {found}, expected {texts[-1]!r}")
        spans.append((start, end))
    title = checked(row.get("title") or "", str, "title", empty=True).replace("_", " ")
    evidence = merge_spans(context, move_to_clean(raw, spans[:1]))
    return different_spellings(texts), QuestionPassage(title, context, True, evidence)
