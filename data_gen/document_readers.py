"""Read documents from folders of text, Markdown, HTML and PDF, from JSON Lines, parquet and Hugging Face datasets.

`find_sources` lists the files of an --input; `DocumentSource.documents` reads one of them, document by document. An
unreadable file or line is yielded as a `CorpusError` that names it and the fix, so that every document is accounted for
and the others are still read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Record = dict[str, Any]
TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".rst", ".tex")
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
RECORD_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet")
HUB = "hf:"
READ_ROWS = 64
SHOWN = 20
"""At most this many unreadable files and lines are named on the terminal. All of them are named in the rows."""


class CorpusError(ValueError):
    """A file or row that cannot be read; the message names the file, the line or row, and the fix."""


@dataclass(frozen=True)
class RawDocument:
    """A document as read. `where`: file, and line or row; `meta`: its other fields as JSON values (no binary ones)."""

    text: str
    where: str
    meta: Record = field(default_factory=dict)


@dataclass(frozen=True)
class DocumentSource:
    """A file or a Hugging Face dataset (`hf:NAME[:CONFIG[:SPLIT]]`). `size` in bytes (0 for a dataset)."""

    path: str
    size: int = 0

    @property
    def many(self) -> bool:
        """Whether it holds any number of documents rather than one."""
        return self.path.startswith(HUB) or _suffix(Path(self.path)) in RECORD_SUFFIXES

    def documents(self, text_field: str = "text", skip: int = 0) -> Iterator[RawDocument | CorpusError]:
        """The documents, in order and without the first `skip`, each one either read or an error."""
        if not self.many:
            if not skip:
                yield _read_file(Path(self.path))
            return
        records = _read_hub(self.path) if self.path.startswith(HUB) else read_records(Path(self.path))
        for number, record in enumerate(records):
            if number >= skip:
                where = f"{self.path}: {row_name(Path(self.path), number)}"
                yield record if isinstance(record, CorpusError) else _document(record, where, text_field)


def find_sources(
    inputs: list[str], text_suffixes: tuple[str, ...] = TEXT_SUFFIXES
) -> tuple[list[DocumentSource], list[str]]:
    """Sources under `inputs` (files, folders, `hf:` names), in a fixed order, and the files of other kinds.

    Raises:
        CorpusError: an input does not exist, or there are no readable files.
    """
    sources: list[DocumentSource] = []
    others: list[str] = []
    readable = {*text_suffixes, *TEXT_SUFFIXES, *HTML_SUFFIXES, *RECORD_SUFFIXES, ".pdf"}
    for entry in inputs:
        path = Path(entry)
        if entry.startswith(HUB):
            sources.append(DocumentSource(entry))
        elif path.is_file():
            sources.append(DocumentSource(entry, path.stat().st_size))
        elif path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p, path)):
                if _suffix(file) in readable:
                    sources.append(DocumentSource(str(file), file.stat().st_size))
                else:
                    others.append(str(file))
        else:
            raise CorpusError(
                f"--input {entry}: no such file or folder (for a Hugging Face dataset: {HUB}NAME[:CONFIG[:SPLIT]])"
            )
    if not sources:
        other_kinds = sorted({_suffix(Path(other)) or "no suffix" for other in others})
        raise CorpusError(
            f"--input {' '.join(inputs)}: no readable files ({', '.join(sorted(readable))}, also .gz); other kinds "
            f"found: {', '.join(other_kinds) or 'none'}. Fix: name further kinds of plain text with "
            "ingest.text_suffixes=[.py,...]"
        )
    return sources, others


def print_unreadable(stage: str, error: CorpusError, count: int) -> None:
    """Name an unreadable file or line on the terminal, if it is one of the first. count: their number so far."""
    if count <= SHOWN:
        print(f"{stage}: {error}", file=sys.stderr)
    elif count == SHOWN + 1:
        print(f"{stage}: more cannot be read; to list all: grep '\"unreadable\"' in its .jsonl files", file=sys.stderr)


def fingerprint_sources(sources: list[DocumentSource]) -> str:
    """A text that changes when a source is added, removed, renamed or resized."""
    listing = "\n".join(f"{source.path}\t{source.size}" for source in sources)
    # File names need not be UTF-8.
    data = listing.encode("utf-8", "surrogateescape")
    return f"{len(sources)} sources, {hashlib.blake2b(data, digest_size=6).hexdigest()}"


def read_records(file: Path) -> Iterator[Any]:
    """Records of a .jsonl, .json (a list, or one object) or .parquet file, or the text of any other file as one record.
    An unreadable record is yielded as a CorpusError."""
    suffix = _suffix(file)
    try:
        if suffix == ".parquet":
            yield from _read_parquet(file)
        elif suffix in (".jsonl", ".ndjson"):
            yield from _read_json_lines(file)
        elif suffix == ".json":
            value = json.loads(_bytes(file))
            yield from value if isinstance(value, list) else [value]
        else:
            document = _read_file(file)
            yield document if isinstance(document, CorpusError) else {"text": document.text}
    except (OSError, EOFError, ValueError, RecursionError, zlib.error, pa.ArrowException) as error:
        yield CorpusError(f"{file}: cannot be read ({type(error).__name__}: {error}). Fix: replace or remove it")


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _suffix(path: Path) -> str:
    """The suffix that tells the kind of a file: `.txt` for `a.TXT.gz`."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def row_name(path: Path, number: int) -> str:
    """The name of record `number` (from 0) of a file: "line 1" as an editor counts, or "row 0" as pandas counts."""
    return f"line {number + 1}" if _suffix(path) in (".jsonl", ".ndjson") else f"row {number}"


def _bytes(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{where}: not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}). Fix: convert it, for example with "
            "iconv -f latin1 -t utf-8"
        ) from error


def _read_file(file: Path) -> RawDocument | CorpusError:
    """A file that is one document."""
    suffix = _suffix(file)
    try:
        data = _bytes(file)
        if suffix == ".pdf":
            text = _pdf_text(data)
        elif suffix in HTML_SUFFIXES:
            text = html_text(_decode_html(data))
        else:
            text = _decode(data, str(file))
    except CorpusError as error:
        return error
    except Exception as error:  # noqa: BLE001  (a PDF can fail in any way, and is reported as unreadable)
        return CorpusError(f"{file}: cannot be read ({type(error).__name__}: {error}). Fix: replace or remove it")
    return RawDocument(text, str(file))


def _pdf_text(data: bytes) -> str:
    import io

    from pypdf import PdfReader

    pages = [page.extract_text() for page in PdfReader(io.BytesIO(data)).pages]
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise ValueError(f"no text on {len(pages)} pages; scanned pages need OCR first")
    # Join words that were hyphenated at the end of a line.
    return re.sub(r"(\w)-\n(?=[a-z])", r"\1", text)


def _decode_html(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        from bs4.dammit import EncodingDetector

        # The default is that of the HTML standard.
        declared = EncodingDetector.find_declared_encoding(data, is_html=True)
        return data.decode(declared or "windows-1252", "replace")


def html_text(html: str) -> str:
    """The text of a page: each block on its own lines, tables row by row, without scripts, styles and navigation."""
    from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning

    with warnings.catch_warnings():
        # XHTML is deliberately parsed as HTML.
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(html, "lxml")
    for hidden in soup.select("script, style, noscript, template, nav, footer, head, [role=navigation]"):
        hidden.decompose()
    for cell in soup(["td", "th"]):
        cell.append("\t")
    for line in soup(["br", "tr", "li", "dt", "dd", "option"]):
        line.append("\n")
    for block in soup(["p", "div", "section", "article", "pre", "blockquote", "ul", "ol", "dl", "table", *_HEADINGS]):
        block.insert(0, "\n\n")
        block.append("\n\n")
    lines = [line.strip() for line in (soup.body or soup).get_text().splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def _read_json_lines(file: Path) -> Iterator[Any]:
    open_file: Callable[..., Any] = gzip.open if file.suffix == ".gz" else open
    with open_file(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}: line {number}"
            if not line.strip():
                yield CorpusError(f"{where}: empty. Fix: remove it")
                continue
            try:
                yield json.loads(_decode(line, where))
            except CorpusError as error:
                yield error
            except (ValueError, RecursionError) as error:
                yield CorpusError(f"{where}: not JSON ({error}); expected one object per line")


def _read_parquet(file: Path) -> Iterator[Record]:
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=READ_ROWS):
            yield from batch.to_pylist()


def _read_hub(name: str) -> Iterator[Record | CorpusError]:
    import datasets

    parts = name.removeprefix(HUB).split(":")
    config = parts[1] if len(parts) > 1 and parts[1] else None
    split = parts[2] if len(parts) > 2 else "train"
    try:
        yield from datasets.load_dataset(parts[0], config, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CorpusError(
            f"{name}: cannot be loaded ({type(error).__name__}: {error}); expected {HUB}NAME[:CONFIG[:SPLIT]], and "
            "either access to the hub or the dataset in its cache"
        ) from error


def _fields(record: Record) -> str:
    names = ", ".join(list(record)[:8])
    return f"the fields {names}" + (f" and {len(record) - 8} more" if len(record) > 8 else "")


def _document(record: Any, where: str, text_field: str) -> RawDocument | CorpusError:
    if not isinstance(record, dict) or not isinstance(record.get(text_field), str):
        content = _fields(record) if isinstance(record, dict) else type(record).__name__
        kind = f" ({type(record[text_field]).__name__})" if isinstance(record, dict) and text_field in record else ""
        return CorpusError(
            f"{where}: no text in {text_field!r}{kind}, found {content}. Fix: name the field with "
            "ingest.text_field=NAME"
        )
    meta = {key: value for key, value in record.items() if key != text_field and not isinstance(value, bytes)}
    # default=str turns dates and the like into text.
    return RawDocument(record[text_field], where, json.loads(json.dumps(meta, default=str)))
