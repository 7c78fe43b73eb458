"""Short multi-hop questions as their sets publish them: a layout says where a row keeps its answers and its evidence.

HotpotQA, 2WikiMultihopQA and MuSiQue (LoongRL's three sources) are read as downloaded or from the Hugging Face hub,
any other set from plain JSON Lines. Kept are also what LoongRL's own readers leave out: the aliases of an answer, which
passages the set names as evidence, and a space between two sentences. A row that holds no usable question is yielded in
its place, as a `CorpusError` or as `Skipped`, so that nothing vanishes and nothing else is lost.
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
"""The fields by which a layout is known. Each also takes an id, and aliases in answer_aliases or aliases;
2WikiMultihopQA has its own in a file beside (`alias_file`), by answer_id."""


@dataclass(frozen=True)
class Passage:
    """A passage that comes with a question. `gold`: the set names it, by its title, as evidence for the answer."""

    title: str
    text: str
    gold: bool


@dataclass(frozen=True)
class Question:
    """A question and its passages. `answers`: the answer, then its aliases; `where`: file, and line or row; `layout`:
    what it was read as, never "auto"."""

    id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...]
    where: str
    layout: Layout = "generic"


@dataclass(frozen=True)
class Skipped:
    """A row that is as it should be and holds no question to ask. `reason`: a name to count it by."""

    where: str
    reason: str


def read_questions(path: str | Path, layout: Layout = "auto") -> Iterator[Question | Skipped | CorpusError]:
    """The rows of a .json, .jsonl (both also .gz) or .parquet file, in order, each one a question or why it is none.

    Layout "auto" is the one that fits the first object's fields; if none does, that error ends the file. Texts lose the
    white space at their ends, and carriage returns before newlines. A question without an id gets a digest of its text.

    Raises:
        CorpusError: there is no such layout.
    """
    if layout != "auto" and layout not in NEEDS:
        raise CorpusError(f"layout {layout!r}: expected auto, {', '.join(NEEDS)}")
    return _read(Path(path), layout)


def layout_of(row: Row) -> Layout:
    """The layout that fits the fields of a row.

    Raises:
        CorpusError: none does; the message names the fields found and those of each layout.
    """
    if "question" in row:
        if "context" in row and isinstance(_parsed(row["context"]), (dict, list)):
            return "2wikimultihopqa" if row.keys() & {"evidences", "evidences_id", "answer_id"} else "hotpotqa"
        if "paragraphs" in row:
            return "musique"
        if row.keys() & {"answer", "answers"} and "context" not in row:
            return "generic"
    layouts = "; ".join(f"{layout} has {fields}" for layout, fields in NEEDS.items())
    raise CorpusError(f"no layout fits {_fields(row)} ({layouts}); rename the fields, or name the layout to read it as")


def alias_file(file: str | Path) -> Path | None:
    """2WikiMultihopQA's file of aliases, if it stands beside this file as in the download: id_aliases.json, one object
    with `Q_id`, `aliases` and `demonyms` a line."""
    beside = Path(file).with_name("id_aliases.json")
    return beside if beside.is_file() else None


def _aliases(file: Path) -> dict[str, list[str]]:
    """Wikidata id -> other names of it. Raises CorpusError for a line that cannot be read."""
    found: dict[str, list[str]] = {}
    beside = alias_file(file)
    if beside is None:
        return found
    with beside.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                found[entry["Q_id"]] = [*entry.get("aliases", ()), *entry.get("demonyms", ())]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CorpusError(
                    f"{beside}: line {number}: expected an object with Q_id, aliases and demonyms, found "
                    f"{line[:80]!r}; download it again, or move it elsewhere to go without aliases"
                ) from error
    return found


def _read(file: Path, wanted: Layout) -> Iterator[Question | Skipped | CorpusError]:
    layout = wanted
    aliases: dict[str, list[str]] | None = None
    lines = file.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    for number, row in enumerate(read_records(file)):
        where = f"{file}: line {number + 1}" if lines else f"{file}: row {number}"
        if isinstance(row, CorpusError):
            yield row
        elif not isinstance(row, dict):
            yield CorpusError(f"{where}: found {_found(row)}, expected an object with a question; correct or remove it")
        else:
            try:
                if layout == "auto":
                    layout = layout_of(row)
            except CorpusError as error:
                yield CorpusError(f"{where}: {error}")
                return
            if layout == "2wikimultihopqa" and aliases is None:
                aliases = _aliases(file)
            yield _row(row, where, layout, aliases or {}, auto=wanted == "auto")


def _row(
    row: Row, where: str, layout: Layout, aliases: Mapping[str, list[str]], auto: bool
) -> Question | Skipped | CorpusError:
    try:
        if layout == "musique" and not _get(row, "answerable", bool, default=True):
            return Skipped(where, "unanswerable")
        if auto and layout == "generic" and (other := row.keys() & {"context", "paragraphs"}):
            raise CorpusError(f"{min(other)}: a field that the file's first row lacks, so it would go unread")
        question = _get(row, "question", str)
        passages = _listed(row, layout) if layout in ("musique", "generic") else _titled(row)
        name = _id(row) or digest(question).hex()
        return Question(name, question, _answers(row, layout, aliases), tuple(passages), where, layout)
    except CorpusError as error:
        by = " (found by auto)" if auto else ""
        return CorpusError(f"{where}: {error}; correct or remove the row; layout {layout}{by} has {NEEDS[layout]}")


def _id(row: Row) -> str:
    field = "id" if row.get("_id") is None else "_id"
    value = row.get(field)
    number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if number else _get(row, field, str, default="", empty=True)


def _answers(row: Row, layout: Layout, aliases: Mapping[str, list[str]]) -> tuple[str, ...]:
    """The answer, then its aliases, each in its first spelling. An empty alias is none, an empty answer an error."""
    if layout == "generic":
        found = _texts(row, "answer") + _texts(row, "answers")
        if not found:
            raise CorpusError(f"answer or answers: missing, found {_fields(row)}")
    else:
        found = [_get(row, "answer", str)]
    found += filter(None, _texts(row, "answer_aliases", empty=True) + _texts(row, "aliases", empty=True))
    found += filter(None, aliases.get(str(row.get("answer_id")), ()))
    spellings: dict[str, str] = {}
    for text in found:
        spellings.setdefault(text.casefold(), text)
    return tuple(spellings.values())


def _texts(row: Row, field: str, empty: bool = False) -> list[str]:
    value = row.get(field)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [_checked(text, str, field, empty) for text in values]


_LISTS = {"musique": ("paragraphs", "paragraph_text", "is_supporting"), "generic": ("passages", "text", "gold")}
"""Where a list of passages, a passage's text, and whether it is evidence stand."""


def _listed(row: Row, layout: Layout) -> Iterator[Passage]:
    """Passages as a list of objects; in the generic layout all but the text may be left out, and a text stand alone."""
    field, text, gold = _LISTS[layout]
    free = layout == "generic"
    for number, item in enumerate(_get(row, field, list, default=[] if free else None, empty=free)):
        place = f"{field}[{number}]"
        passage = _checked({text: item} if free and isinstance(item, str) else item, dict, place)
        title = _get(passage, "title", str, place, default="" if free else None, empty=True)
        supports = _get(passage, gold, bool, place, default=False if free else None)
        yield Passage(title, _get(passage, text, str, place), supports)


def _titled(row: Row) -> Iterator[Passage]:
    """Passages as titles with sentences, of which the evidence is named by title."""
    gold = {_checked(title, str, "supporting_facts: title") for title, _ in _pairs(row, "supporting_facts", "sent_id")}
    passages = _checked(_pairs(row, "context", "sentences", "content"), list, "context")
    for number, (title, sentences) in enumerate(passages):
        title = _checked(title, str, f"context[{number}]: title", empty=True)
        yield Passage(title, _joined(sentences, f"context[{number}]: sentences"), title in gold)


def _pairs(row: Row, field: str, *names: str) -> list[Any]:
    """[[title, x], ...] of a field; on the hub {"title": [...], x's name: [...]}, and either one also as JSON text."""
    value = pairs = _parsed(_get(row, field, object, empty=True))
    if isinstance(value, dict):
        titles, others = value.get("title"), next((value[name] for name in names if name in value), None)
        pairs = None
        if isinstance(titles, list) and isinstance(others, list) and len(titles) == len(others):
            pairs = [list(pair) for pair in zip(titles, others, strict=True)]
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        shape = f"[[title, {names[0]}], ...], or title and {names[0]} as lists of one length"
        raise CorpusError(f"{field}: found {_found(value)}, expected {shape}")
    return pairs


def _parsed(value: Any) -> Any:
    """JSON text as its value, anything else as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _joined(sentences: Any, place: str) -> str:
    """Sentences as one text, with a space where neither of two neighbours has white space."""
    text = ""
    for sentence in _checked(sentences, list, place):
        if not isinstance(sentence, str):
            raise CorpusError(f"{place}: found {_found(sentence)}, expected text")
        between = text and sentence and not text[-1].isspace() and not sentence[0].isspace()
        text += f" {sentence}" if between else sentence
    return _checked(text, str, place)


def _get(row: Row, field: str, kind: type, within: str = "", default: Any = None, empty: bool = False) -> Any:
    """A field's value, checked; where there is none the default, or an error if that is None."""
    place = f"{within}.{field}" if within else field
    value = row.get(field)
    if value is None and default is None:
        raise CorpusError(f"{place}: missing, found {_fields(row)}")
    return default if value is None else _checked(value, kind, place, empty)


def _checked(value: Any, kind: type, place: str, empty: bool = False) -> Any:
    """A value of this kind, empty only if it may be. A text is made fit to be written: a lone surrogate becomes "?"."""
    if not isinstance(value, kind):
        raise CorpusError(f"{place}: found {_found(value)}, expected {_KINDS[kind]}")
    if isinstance(value, str):
        value = value.replace("\r\n", "\n").encode("utf-8", "replace").decode().strip()
    if value in ("", []) and not empty:
        raise CorpusError(f"{place}: empty, expected {_KINDS[kind]}")
    return value


_KINDS = {str: "text", bool: "true or false", list: "a list", dict: "an object"}


def _found(value: Any) -> str:
    return f"{short(value)} ({type(value).__name__})"


def _fields(row: Row) -> str:
    more = f" and {len(row) - 12} more" if len(row) > 12 else ""
    return f"the fields {', '.join(list(row)[:12])}{more}" if row else "no fields"
