"""The layouts of HotpotQA, 2WikiMultihopQA and MuSiQue: passages of which some are needed for the answer.

The first two name their evidence by title and sentence, so evidence is the characters of these sentences. MuSiQue names
whole paragraphs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_gen.document_readers import CorpusError
from data_gen.question_readers.fields import (
    Row,
    checked,
    describe,
    different_spellings,
    get_field,
    move_to_clean,
    parse_json,
    read_texts,
)
from data_gen.question_readers.question import NotAsked, QuestionPassage, Span, merge_spans


def read_answers(row: Row, aliases: Mapping[str, list[str]]) -> tuple[str, ...]:
    """The answer, then its aliases. Empty aliases are ignored, an empty answer is an error."""
    answers = [get_field(row, "answer", str)]
    answers += filter(None, read_texts(row, "answer_aliases", empty=True) + read_texts(row, "aliases", empty=True))
    answers += filter(None, aliases.get(str(row.get("answer_id")), ()))
    return different_spellings(answers)


def read_musique_passages(row: Row) -> Iterator[QuestionPassage]:
    """The paragraphs of a row of MuSiQue. Raises NotAsked when it says that they do not answer its question."""
    if not get_field(row, "answerable", bool, default=True):
        raise NotAsked("unanswerable")
    for number, item in enumerate(get_field(row, "paragraphs", list)):
        place = f"paragraphs[{number}]"
        passage = checked(item, dict, place)
        title = get_field(passage, "title", str, place, empty=True)
        is_gold = get_field(passage, "is_supporting", bool, place)
        text = get_field(passage, "paragraph_text", str, place)
        yield QuestionPassage(title, text, is_gold, ((0, len(text)),) if is_gold else ())


def read_titled_passages(row: Row) -> tuple[list[QuestionPassage], list[str]]:
    """The passages of a row of HotpotQA or 2WikiMultihopQA, and the facts that none of them has."""
    facts: dict[str, list[int]] = {}
    for title, sentence in _pairs(row, "supporting_facts", "sent_id"):
        title = checked(title, str, "supporting_facts: title")
        facts.setdefault(title, []).append(checked(sentence, int, "supporting_facts: sent_id"))
    contexts = checked(_pairs(row, "context", "sentences", "content"), list, "context")
    titles = [checked(title, str, f"context[{n}]: title", empty=True) for n, (title, _) in enumerate(contexts)]
    uses = Counter(titles)
    unplaced = [f"supporting_facts: {uses[title]} passages are named {title}" for title in facts if uses[title] != 1]
    passages = []
    for number, (title, (_, sentences)) in enumerate(zip(titles, contexts, strict=True)):
        text, spans = _join_sentences(sentences, f"context[{number}]: sentences")
        evidence = []
        for sentence in facts.get(title, ()):
            if 0 <= sentence < len(spans) and text[slice(*spans[sentence])].strip():
                evidence.append(spans[sentence])
            else:
                unplaced.append(f"supporting_facts: {title} has no sentence {sentence}")
        passages.append(QuestionPassage(title, text, title in facts, merge_spans(text, evidence)))
    return passages, unplaced


def _pairs(row: Row, field: str, *names: str) -> list[Any]:
    """The pairs [[title, x], ...] of a field. On the hub they are two lists, {"title": [...], NAME: [...]}; either form
    may also be JSON text. names: possible names of the second list."""
    value = pairs = parse_json(get_field(row, field, object, empty=True))
    if isinstance(value, dict):
        titles, others = value.get("title"), next((value[name] for name in names if name in value), None)
        pairs = None
        if isinstance(titles, list) and isinstance(others, list) and len(titles) == len(others):
            pairs = [list(pair) for pair in zip(titles, others, strict=True)]
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        shape = f"[[title, {names[0]}], ...], or title and {names[0]} as lists of the same length"
        raise CorpusError(f"{field}: found {describe(value)}, expected {shape}")
    return pairs


def _join_sentences(sentences: Any, place: str) -> tuple[str, list[Span]]:
    """Sentences as one text, with a space between two neighbours if neither of them has one, and their spans in it."""
    text = ""
    spans: list[Span] = []
    for sentence in checked(sentences, list, place):
        if not isinstance(sentence, str):
            raise CorpusError(f"{place}: found {describe(sentence)}, expected text")
        needs_space = text and sentence and not text[-1].isspace() and not sentence[0].isspace()
        text += f" {sentence}" if needs_space else sentence
        spans.append((len(text) - len(sentence), len(text)))
    return checked(text, str, place), list(move_to_clean(text, spans))


def alias_file(file: str | Path) -> Path | None:
    """2WikiMultihopQA's file of aliases, id_aliases.json, if it is next to this file as in the download. It has one
    object with `Q_id`, `aliases` and `demonyms` per line."""
    aliases = Path(file).with_name("id_aliases.json")
    return aliases if aliases.is_file() else None


def read_aliases(file: Path) -> dict[str, list[str]]:
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
