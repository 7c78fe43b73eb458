"""Documents from wherever users have them: folders of text, Markdown, HTML and PDF, JSON Lines, parquet, Hugging Face.

`find` lists what an --input holds; `Source.documents` reads one of them, document by document. What cannot be read is
yielded as a `CorpusError` that names file, line and fix, in its place, so that nothing vanishes and nothing else is
lost.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
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


class CorpusError(ValueError):
    """Something that cannot be read; the message names the file, the line or row, and the fix."""


@dataclass(frozen=True)
class RawDocument:
    """A document as found. `where`: file, and line or row; `meta`: its other fields as JSON values (no binary ones)."""

    text: str
    where: str
    meta: Record = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A file or a Hugging Face dataset (`hf:NAME[:CONFIG[:SPLIT]]`). `size` in bytes (0 for a dataset)."""

    path: str
    size: int = 0

    @property
    def many(self) -> bool:
        """Whether it holds any number of documents rather than one."""
        return self.path.startswith(HUB) or _suffix(Path(self.path)) in RECORD_SUFFIXES

    def documents(self, text_field: str = "text", skip: int = 0) -> Iterator[RawDocument | CorpusError]:
        """The documents from number `skip` on, in order, each one either read or an error."""
        if not self.many:
            if not skip:
                yield _read_file(Path(self.path))
            return
        records = _hub(self.path) if self.path.startswith(HUB) else read_records(Path(self.path))
        for number, record in enumerate(records):
            if number >= skip:
                where = f"{self.path}: {place(Path(self.path), number)}"
                yield record if isinstance(record, CorpusError) else _document(record, where, text_field)


def find(inputs: list[str], text_suffixes: tuple[str, ...] = TEXT_SUFFIXES) -> tuple[list[Source], list[str]]:
    """Sources under `inputs` (files, folders, `hf:` names), in a fixed order, and the files of other kinds.

    Raises:
        CorpusError: an input does not exist, or none holds anything readable.
    """
    sources: list[Source] = []
    others: list[str] = []
    readable = {*text_suffixes, *TEXT_SUFFIXES, *HTML_SUFFIXES, *RECORD_SUFFIXES, ".pdf"}
    for entry in inputs:
        path = Path(entry)
        if entry.startswith(HUB):
            sources.append(Source(entry))
        elif path.is_file():
            sources.append(Source(entry, path.stat().st_size))
        elif path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path)):
                if _suffix(file) in readable:
                    sources.append(Source(str(file), file.stat().st_size))
                else:
                    others.append(str(file))
        else:
            raise CorpusError(
                f"--input {entry}: no such file or folder; a Hugging Face dataset is written {HUB}NAME[:CONFIG[:SPLIT]]"
            )
    if not sources:
        raise CorpusError(
            f"--input {' '.join(inputs)}: no readable files ({', '.join(sorted(readable))}, also .gz); other kinds "
            f"found: {', '.join(sorted({_suffix(Path(o)) or 'no suffix' for o in others})) or 'none'}; name "
            "further plain-text kinds with ingest.text_suffixes=[.py,...]"
        )
    return sources, others


def fingerprint(sources: list[Source]) -> str:
    """Changes when a source is added, removed, renamed or resized."""
    listing = "\n".join(f"{source.path}\t{source.size}" for source in sources)
    data = listing.encode("utf-8", "surrogateescape")  # file names need not be UTF-8
    return f"{len(sources)} sources, {hashlib.blake2b(data, digest_size=6).hexdigest()}"


def read_records(file: Path) -> Iterator[Any]:
    """Records of a .jsonl, .json (a list, or one object) or .parquet file, or the text of any other as one record; a
    CorpusError in the place of what cannot be read."""
    suffix = _suffix(file)
    try:
        if suffix == ".parquet":
            yield from _parquet(file)
        elif suffix in (".jsonl", ".ndjson"):
            yield from _json_lines(file)
        elif suffix == ".json":
            value = json.loads(_bytes(file))
            yield from value if isinstance(value, list) else [value]
        else:
            document = _read_file(file)
            yield document if isinstance(document, CorpusError) else {"text": document.text}
    except (OSError, EOFError, ValueError, RecursionError, zlib.error, pa.ArrowException) as error:
        yield CorpusError(f"{file}: cannot be read ({type(error).__name__}: {error}); replace or remove it")


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _suffix(path: Path) -> str:
    """The suffix that says what a file is: `a.TXT.gz` is `.txt`."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def place(path: Path, number: int) -> str:
    """Where record `number` (from 0) of a file stands, as an editor or pandas counts."""
    return f"line {number + 1}" if _suffix(path) in (".jsonl", ".ndjson") else f"row {number}"


def _bytes(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{where}: not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}); convert it, for example with "
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
    except Exception as error:  # noqa: BLE001  (a PDF can fail in any way; it is reported, in its place)
        return CorpusError(f"{file}: cannot be read ({type(error).__name__}: {error}); replace or remove it")
    return RawDocument(text, str(file))


def _pdf_text(data: bytes) -> str:
    import io

    from pypdf import PdfReader

    pages = [page.extract_text() for page in PdfReader(io.BytesIO(data)).pages]
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise ValueError(f"no text on {len(pages)} pages; scanned pages need OCR first")
    return re.sub(r"(\w)-\n(?=[a-z])", r"\1", text)  # words hyphenated at a line's end


def _decode_html(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        from bs4.dammit import EncodingDetector

        declared = EncodingDetector.find_declared_encoding(data, is_html=True)
        return data.decode(declared or "windows-1252", "replace")  # the web's own default


def html_text(html: str) -> str:
    """The text of a page: blocks on lines of their own, tables row by row, without scripts, styles and navigation."""
    from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)  # XHTML is meant
        soup = BeautifulSoup(html, "lxml")
    for unread in soup.select("script, style, noscript, template, nav, footer, head, [role=navigation]"):
        unread.decompose()
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


def _json_lines(file: Path) -> Iterator[Any]:
    opened: Callable[..., Any] = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(_decode(line, f"{file}: line {number}")) if line.strip() else _blank(file, number)
            except CorpusError as error:
                yield error
            except (ValueError, RecursionError) as error:
                yield CorpusError(f"{file}: line {number}: not JSON ({error}); one object per line is expected")


def _blank(file: Path, number: int) -> CorpusError:
    return CorpusError(f"{file}: line {number}: empty; remove it")


def _parquet(file: Path) -> Iterator[Record]:
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=READ_ROWS):
            yield from batch.to_pylist()


def _hub(name: str) -> Iterator[Record | CorpusError]:
    import datasets

    parts = name.removeprefix(HUB).split(":")
    config = parts[1] if len(parts) > 1 and parts[1] else None
    split = parts[2] if len(parts) > 2 else "train"
    try:
        yield from datasets.load_dataset(parts[0], config, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CorpusError(
            f"{name}: cannot be loaded ({type(error).__name__}: {error}); expected {HUB}NAME[:CONFIG[:SPLIT]], and the "
            "hub within reach or the dataset in its cache"
        ) from error


def _fields(record: Record) -> str:
    names = ", ".join(list(record)[:8])
    return f"the fields {names}" + (f" and {len(record) - 8} more" if len(record) > 8 else "")


def _document(record: Any, where: str, text_field: str) -> RawDocument | CorpusError:
    if not isinstance(record, dict) or not isinstance(record.get(text_field), str):
        found = _fields(record) if isinstance(record, dict) else type(record).__name__
        kind = f" ({type(record[text_field]).__name__})" if isinstance(record, dict) and text_field in record else ""
        return CorpusError(
            f"{where}: no text in {text_field!r}{kind}, found {found}; name the right field with ingest.text_field=NAME"
        )
    kept = {key: value for key, value in record.items() if key != text_field and not isinstance(value, bytes)}
    return RawDocument(record[text_field], where, json.loads(json.dumps(kept, default=str)))  # dates as text
