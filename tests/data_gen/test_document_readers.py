"""Every kind of file is read, and what cannot be read is named in its place while the rest is kept."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_gen.document_readers import (
    CorpusError,
    DocumentSource,
    RawDocument,
    find_sources,
    fingerprint_sources,
    html_text,
    read_records,
)


def pdf(*pages):
    """A PDF with one line of text on each page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for n, text in enumerate(pages):
        objects.append(f"<</Type/Page/Parent 2 0 R/Contents {5 + 2 * n} 0 R/Resources<</Font<</F 3 0 R>>>>>>")
        stream = f"BT /F 12 Tf 9 9 Td ({text}) Tj ET" if text else ""
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    data, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj{body}endobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(data)}\n%%EOF\n"
    return f"{data}xref\n0 {size}\n0000000000 65535 f \n{table}{end}".encode()


def documents(path, **arguments):
    """All documents under a path."""
    sources, _ = find_sources([str(path)])
    return [found for source in sources for found in source.documents(**arguments)]


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", "Grüße\n", "Grüße\n"),
        ("a.TXT", b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("a.md", "# Title\n\nText.", "# Title\n\nText."),
        ("a.txt.gz", gzip.compress(b"packed", mtime=0), "packed"),
        ("a.html", "<html><head><title>T</title></head><body><p>One.</p><p>Two.</p></body></html>", "One.\n\nTwo."),
        ("a.htm", "<p>caf\xe9</p>".encode("latin-1"), "café"),
        ("a.htm", "<meta charset=koi8-r><p>мир</p>".encode("koi8-r"), "мир"),
        ("a.pdf", pdf("The first page.", "The second page."), "The first page.\n\nThe second page."),
    ],
)
def test_a_file_is_a_document(tmp_path, name, content, text):
    path = write(tmp_path, name, content)
    assert documents(path) == [RawDocument(text, str(path))]


ROWS = [{"text": "one", "title": "A", "year": 1, "tags": ["x"]}, {"text": "two", "title": None, "year": 2, "tags": []}]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "jsonl.gz"])
def test_rows_are_documents_and_keep_their_fields(tmp_path, kind):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        data = (json.dumps(ROWS) if kind == "json" else lines).encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    first, second = documents(path)
    assert (first.text, first.meta) == ("one", {"title": "A", "year": 1, "tags": ["x"]})
    assert second.where in (f"{path}: line 2", f"{path}: row 1")
    assert documents(path, skip=1) == [second]
    assert documents(path, text_field="title")[0].text == "A"


def test_a_hugging_face_dataset_by_name(tmp_path):
    write(tmp_path, "train.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    first, second = documents(f"hf:{tmp_path}")
    assert (first.text, second.meta["year"]) == ("one", 2)
    with pytest.raises(CorpusError, match=r"hf:.*nowhere: cannot be loaded .*expected hf:NAME"):
        documents(f"hf:{tmp_path}/nowhere")


def test_a_folder_is_read_in_a_fixed_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b/z.txt", "a.md", "c.bin", ".git/x.txt", "noext", "code.py"):
        write(tmp_path, name, "text")
    sources, others = find_sources([str(tmp_path)])
    assert [s.path.removeprefix(f"{tmp_path}/") for s in sources] == ["a.md", "b/z.txt"]
    assert [o.removeprefix(f"{tmp_path}/") for o in others] == ["c.bin", "code.py", "noext"]
    more, _ = find_sources([str(tmp_path)], (".py",))
    assert len(more) == 3
    assert (
        fingerprint_sources(more)
        != fingerprint_sources(sources)
        == fingerprint_sources(find_sources([str(tmp_path)])[0])
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"caf\xe9", r"a.txt: not UTF-8 \(byte 3 is 0xe9\). Fix: convert it, for example with iconv"),
        ("a.txt.gz", b"not packed", r"a.txt.gz: cannot be read \(BadGzipFile"),
        ("a.pdf", b"%PDF-1.4 and nothing", r"a.pdf: cannot be read \("),
        ("a.pdf", pdf("", ""), r"a.pdf: cannot be read \(ValueError: no text on 2 pages; scanned pages need OCR first"),
        ("a.json", "{", r"a.json: cannot be read \(JSONDecodeError"),
        ("a.parquet", b"PAR1", r"a.parquet: cannot be read \("),
        (
            "a.jsonl",
            '{"body": "x"}',
            r"a.jsonl: line 1: no text in 'text', found the fields body. .*ingest.text_field=NAME",
        ),
        ("a.jsonl", '{"text": 3}', r"line 1: no text in 'text' \(int\)"),
        ("a.jsonl", "[" * 100_000, r"line 1: not JSON"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}', mtime=0)[:-12] + b"\xff" * 12, r"a.jsonl.gz: cannot be read"),
        ("a.jsonl", "[1]", r"line 1: no text in 'text', found list"),
        ("a.jsonl", "{", r"line 1: not JSON .*one object per line"),
        ("a.jsonl", b'{"text": "caf\xe9"}', r"line 1: not UTF-8"),
        ("a.jsonl", "\n", r"line 1: empty. Fix: remove it"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    (found,) = documents(write(tmp_path, name, content))
    assert isinstance(found, CorpusError)
    with pytest.raises(CorpusError, match=message):
        raise found


def test_a_broken_line_does_not_take_the_others_with_it(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "one"}\n{"text": \n\n{"text": "four"}\n')
    one, two, three, four = documents(path)
    assert (one.text, four.text, four.where) == ("one", "four", f"{path}: line 4")
    assert "line 2: not JSON" in str(two)
    assert "line 3: empty" in str(three)


def test_inputs_that_are_not_there(tmp_path):
    with pytest.raises(CorpusError, match=r"--input .*nowhere: no such file or folder \(for a Hugging Face dataset"):
        find_sources([str(tmp_path / "nowhere")])
    write(tmp_path, "a.bin", "x")
    with pytest.raises(CorpusError, match=r"no readable files .*other kinds found: .bin. .*ingest.text_suffixes"):
        find_sources([str(tmp_path)])


def test_html():
    page = """<body><nav>Menu</nav><div role="navigation">next</div><h1>Head</h1><p>One <b>bold</b>
      word.<br>Next line.</p><ul><li>a</li><li>b</li></ul><table><tr><td>1</td><td>2</td></tr></table>
      <script>no()</script><pre>code
  indented</pre><footer>no</footer></body>"""
    text = html_text(page)
    assert [line for line in text.splitlines() if line] == [
        "Head", "One bold", "word.", "Next line.", "a", "b", "1\t2", "code", "indented",
    ]  # fmt: skip
    assert "\n\n\n" not in text


def test_a_source_knows_whether_it_holds_many():
    assert [DocumentSource(p).many for p in ("a.jsonl", "a.parquet", "hf:x", "a.jsonl.gz", "a.txt")] == [True] * 4 + [
        False
    ]


def test_records_of_a_text_file_are_its_text(tmp_path):
    assert list(read_records(write(tmp_path, "a.txt", "x"))) == [{"text": "x"}]
