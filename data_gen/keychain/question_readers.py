"""Read short multi-hop questions in the layouts in which data sets publish them.

A layout says which fields hold the answers and the evidence. HotpotQA, 2WikiMultihopQA and MuSiQue (LoongRL's three
sources) are read as downloaded or from the Hugging Face hub, any other set from plain JSON Lines. Unlike LoongRL's own
readers, these keep the aliases of an answer, the passages that the set names as evidence, and a space between two
sentences. A row without a usable question is yielded as a `CorpusError` or as `Skipped`, so that every row is accounted
for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal

from data_gen.document_readers import CorpusError, read_records
from data_gen.text import digest

Row = dict[str, Any]
Layout = Literal["auto", "hotpotqa", "2wikimultihopqa", "musique", "generic"]
NEEDS: dict[str, str] = {
    "hotpotqa": "question, answer, context as [[title, [sentence, ...]], ...], supporting_facts as [[title, n], ...]",
    "2wikimultihopqa": "the fields of hotpotqa and evidences",
    "musique": "question, answer, paragraphs as [{title, paragraph_text, is_supporting}, ...]",
    "generic": "question, answer or answers, passages (if any) as [text or {title, text, gold}, ...]",
}
"""The fields by which a layout is recognised. Rows of each may also have an id, and aliases in answer_aliases or
aliases; those of 2WikiMultihopQA are in another file (`alias_file`), by answer_id."""


@dataclass(frozen=True)
class QuestionPassage:
    """A passage of a question. `gold`: the data set names it, by its title, as evidence for the answer."""

    title: str
    text: str
    gold: bool


@dataclass(frozen=True)
class MultiHopQuestion:
    """A question and its passages. `answers`: the answer, then its aliases; `where`: file, and line or row; `layout`:
    the layout in which it was read, never "auto"."""

    id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[QuestionPassage, ...]
    where: str
    layout: Layout = "generic"


@dataclass(frozen=True)
class Skipped:
    """A valid row that has no answerable question. `reason`: a name to count it by."""

    where: str
    reason: str


def read_questions(path: str | Path, layout: Layout = "auto") -> Iterator[MultiHopQuestion | Skipped | CorpusError]:
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
    if "question" in row:
        if "context" in row and isinstance(_parsed(row["context"]), (dict, list)):
            return "2wikimultihopqa" if row.keys() & {"evidences", "evidences_id", "answer_id"} else "hotpotqa"
        if "paragraphs" in row:
            return "musique"
        if row.keys() & {"answer", "answers"} and "context" not in row:
            return "generic"
    layouts = "; ".join(f"{layout} has {fields}" for layout, fields in NEEDS.items())
    raise CorpusError(f"no layout fits {_fields(row)} ({layouts}). Fix: rename the fields, or name a layout")


def alias_file(file: str | Path) -> Path | None:
    """2WikiMultihopQA's file of aliases, id_aliases.json, if it is next to this file as in the download. It has one
    object with `Q_id`, `aliases` and `demonyms` per line."""
    aliases = Path(file).with_name("id_aliases.json")
    return aliases if aliases.is_file() else None


def _read_aliases(file: Path) -> dict[str, list[str]]:
    """Wikidata id -> its other names. Raises CorpusError for a line that cannot be read."""
    names: dict[str, list[str]] = {}
    aliases = alias_file(file)
    if aliases is None:
        return names
    with aliases.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                names[entry["Q_id"]] = [*entry.get("aliases", ()), *entry.get("demonyms", ())]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CorpusError(
                    f"{aliases}: line {number}: expected an object with Q_id, aliases and demonyms, found "
                    f"{line[:80]!r}. Fix: download it again, or move it away to use no aliases"
                ) from error
    return names


def _read_file(file: Path, layout_option: Layout) -> Iterator[MultiHopQuestion | Skipped | CorpusError]:
    layout = layout_option
    aliases: dict[str, list[str]] | None = None
    lines = file.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    for number, row in enumerate(read_records(file)):
        where = f"{file}: line {number + 1}" if lines else f"{file}: row {number}"
        if isinstance(row, CorpusError):
            yield row
        elif not isinstance(row, dict):
            yield CorpusError(
                f"{where}: found {_describe(row)}, expected an object with a question. Fix: correct or remove it"
            )
        else:
            try:
                if layout == "auto":
                    layout = layout_of(row)
            except CorpusError as error:
                yield CorpusError(f"{where}: {error}")
                return
            if layout == "2wikimultihopqa" and aliases is None:
                aliases = _read_aliases(file)
            yield _read_row(row, where, layout, aliases or {}, auto=layout_option == "auto")


def _read_row(
    row: Row, where: str, layout: Layout, aliases: Mapping[str, list[str]], auto: bool
) -> MultiHopQuestion | Skipped | CorpusError:
    try:
        if layout == "musique" and not _get(row, "answerable", bool, default=True):
            return Skipped(where, "unanswerable")
        if auto and layout == "generic" and (other := row.keys() & {"context", "paragraphs"}):
            raise CorpusError(f"{min(other)}: the file's first row lacks this field, so it would be ignored")
        question = _get(row, "question", str)
        passages = _listed_passages(row, layout) if layout in ("musique", "generic") else _titled_passages(row)
        name = _id(row) or digest(question).hex()
        return MultiHopQuestion(name, question, _answers(row, layout, aliases), tuple(passages), where, layout)
    except CorpusError as error:
        how = " (chosen by auto)" if auto else ""
        return CorpusError(
            f"{where}: {error}. Fix: correct or remove the row; layout {layout}{how} has {NEEDS[layout]}"
        )


def _id(row: Row) -> str:
    field = "id" if row.get("_id") is None else "_id"
    value = row.get(field)
    number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if number else _get(row, field, str, default="", empty=True)


def _answers(row: Row, layout: Layout, aliases: Mapping[str, list[str]]) -> tuple[str, ...]:
    """The answer, then its aliases, each in its first spelling. Empty aliases are ignored, an empty answer is an
    error."""
    if layout == "generic":
        answers = _texts(row, "answer") + _texts(row, "answers")
        if not answers:
            raise CorpusError(f"answer or answers: missing, found {_fields(row)}")
    else:
        answers = [_get(row, "answer", str)]
    answers += filter(None, _texts(row, "answer_aliases", empty=True) + _texts(row, "aliases", empty=True))
    answers += filter(None, aliases.get(str(row.get("answer_id")), ()))
    spellings: dict[str, str] = {}
    for text in answers:
        spellings.setdefault(text.casefold(), text)
    return tuple(spellings.values())


def _texts(row: Row, field: str, empty: bool = False) -> list[str]:
    value = row.get(field)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [_checked(text, str, field, empty) for text in values]


_LISTS = {"musique": ("paragraphs", "paragraph_text", "is_supporting"), "generic": ("passages", "text", "gold")}
"""Layout -> the fields of the list of passages, of a passage's text, and of whether it is evidence."""


def _listed_passages(row: Row, layout: Layout) -> Iterator[QuestionPassage]:
    """Passages as a list of objects. In the generic layout all fields but the text are optional, and a passage may also
    be a text."""
    field, text, gold = _LISTS[layout]
    optional = layout == "generic"
    for number, item in enumerate(_get(row, field, list, default=[] if optional else None, empty=optional)):
        place = f"{field}[{number}]"
        passage = _checked({text: item} if optional and isinstance(item, str) else item, dict, place)
        title = _get(passage, "title", str, place, default="" if optional else None, empty=True)
        is_gold = _get(passage, gold, bool, place, default=False if optional else None)
        yield QuestionPassage(title, _get(passage, text, str, place), is_gold)


def _titled_passages(row: Row) -> Iterator[QuestionPassage]:
    """Passages as titles with sentences; the evidence is named by title."""
    gold = {_checked(title, str, "supporting_facts: title") for title, _ in _pairs(row, "supporting_facts", "sent_id")}
    passages = _checked(_pairs(row, "context", "sentences", "content"), list, "context")
    for number, (title, sentences) in enumerate(passages):
        title = _checked(title, str, f"context[{number}]: title", empty=True)
        yield QuestionPassage(title, _join_sentences(sentences, f"context[{number}]: sentences"), title in gold)


def _pairs(row: Row, field: str, *names: str) -> list[Any]:
    """The pairs [[title, x], ...] of a field. On the hub they are two lists, {"title": [...], NAME: [...]}; either form
    may also be JSON text. names: possible names of the second list."""
    value = pairs = _parsed(_get(row, field, object, empty=True))
    if isinstance(value, dict):
        titles, others = value.get("title"), next((value[name] for name in names if name in value), None)
        pairs = None
        if isinstance(titles, list) and isinstance(others, list) and len(titles) == len(others):
            pairs = [list(pair) for pair in zip(titles, others, strict=True)]
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        shape = f"[[title, {names[0]}], ...], or title and {names[0]} as lists of the same length"
        raise CorpusError(f"{field}: found {_describe(value)}, expected {shape}")
    return pairs


def _parsed(value: Any) -> Any:
    """The value of JSON text; anything else unchanged."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _join_sentences(sentences: Any, place: str) -> str:
    """Sentences as one text, with a space between two neighbours if neither of them has one."""
    text = ""
    for sentence in _checked(sentences, list, place):
        if not isinstance(sentence, str):
            raise CorpusError(f"{place}: found {_describe(sentence)}, expected text")
        needs_space = text and sentence and not text[-1].isspace() and not sentence[0].isspace()
        text += f" {sentence}" if needs_space else sentence
    return _checked(text, str, place)


def _get(row: Row, field: str, kind: type, within: str = "", default: Any = None, empty: bool = False) -> Any:
    """A field's value, checked. If the field is missing: the default, or an error if the default is None."""
    place = f"{within}.{field}" if within else field
    value = row.get(field)
    if value is None and default is None:
        raise CorpusError(f"{place}: missing, found {_fields(row)}")
    return default if value is None else _checked(value, kind, place, empty)


def _checked(value: Any, kind: type, place: str, empty: bool = False) -> Any:
    """A value of this kind, not empty unless `empty` allows it. Lone surrogates in text, which cannot be written to a
    file, become "?"."""
    if not isinstance(value, kind):
        raise CorpusError(f"{place}: found {_describe(value)}, expected {_KINDS[kind]}")
    if isinstance(value, str):
        value = value.replace("\r\n", "\n").encode("utf-8", "replace").decode().strip()
    if value in ("", []) and not empty:
        raise CorpusError(f"{place}: empty, expected {_KINDS[kind]}")
    return value


_KINDS = {str: "text", bool: "true or false", list: "a list", dict: "an object"}


def _describe(value: Any) -> str:
    return f"{short(value)} ({type(value).__name__})"


def _fields(row: Row) -> str:
    more = f" and {len(row) - 12} more" if len(row) > 12 else ""
    return f"the fields {', '.join(list(row)[:12])}{more}" if row else "no fields"
