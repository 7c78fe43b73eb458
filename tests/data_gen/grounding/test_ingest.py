"""Files become documents with a reason for every one that does not, and an interrupted file is read on where it was."""

import json

import pytest

from data_gen.grounding.ingest import IngestOptions, IngestStage, normalise
from data_gen.store import Store

pytestmark = pytest.mark.engine  # transformers' tokenizers are imported


def ingest(tmp_path, *paths, benchmarks=(), part=4, **options):
    options = IngestOptions(**{"buckets": (10, 100, 1000), **options})
    stage = IngestStage(options, [str(p) for p in paths or [tmp_path / "in"]], "builtin", part, benchmarks)
    store = Store(tmp_path / "run", "ingest")
    stage.run(store, 0)
    return store, [row for name in store.parts("ingest") for row in store.read("ingest", name)]


@pytest.fixture
def rows(tmp_path):
    """A .jsonl of ten documents of 20 to 29 words."""
    file = tmp_path / "in" / "rows.jsonl"
    file.parent.mkdir()
    file.write_text(
        "".join(json.dumps({"text": f"number{n} " + "word " * (19 + n), "year": n}) + "\n" for n in range(10))
    )
    return file


def test_rows_have_text_length_bucket_source_and_fields(tmp_path, rows):
    (tmp_path / "in" / "big.txt").write_text("many words here " * 60)
    _, found = ingest(tmp_path)
    by_source = {row["source"]: row for row in found}
    row = by_source[f"{rows}: line 3"]
    assert row["text"].startswith("number2 word")
    assert (row["bucket"], row["meta"]) == ("10-100", {"year": 2})
    assert 10 <= row["tokens"] <= 100
    assert by_source[f"{tmp_path}/in/big.txt"]["bucket"] == "100-1000"
    assert len({row["id"] for row in found}) == 11


def test_reasons(tmp_path, rows):
    bench = tmp_path / "bench.txt"
    bench.write_text("number3 " + "word " * 12)
    (tmp_path / "in" / "empty.txt").write_text(" \n ")
    (tmp_path / "in" / "short.txt").write_text("two words")
    (tmp_path / "in" / "long.txt").write_text("word " * 2000)
    store, found = ingest(tmp_path, benchmarks=(str(bench),))
    reasons = {row["detail"].split(":")[0].rpartition("/")[2]: row["drop"] for row in found if "drop" in row}
    assert reasons["empty.txt"] == "empty"
    assert reasons["short.txt"] == "too_short"
    assert reasons["long.txt"] == "too_long"
    counts = store.report("ingest")["counts"]
    assert counts["dropped: contaminated"] == 1
    assert counts["documents"] == 13


def test_an_interrupted_file_is_read_on(tmp_path, rows):
    store, found = ingest(tmp_path, part=3)
    assert len(store.parts("ingest")) == 4
    counts = store.report("ingest")["counts"]
    for name in store.parts("ingest")[2:]:
        (store.root / "ingest" / f"{name}.jsonl").unlink()
    (store.root / "ingest" / "rank-0-of-1.json").unlink()
    store, again = ingest(tmp_path, part=3)
    assert again == found
    assert store.report("ingest")["counts"] == counts


def test_special_tokens_of_documents_are_broken_up_and_counted(tmp_path, rows):
    (tmp_path / "in" / "web.txt").write_text("one </s>two <s>three" + " word" * 20)
    store, found = ingest(tmp_path)
    (row,) = [row for row in found if row["source"].endswith("web.txt")]
    assert row["text"].startswith("one < /s>two < s>three word")
    assert store.report("ingest")["counts"]["with special tokens"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a\r\nb\rc \n", "a\nb\nc"),
        ("a\x00b\x07c\x0cd\x7f", "abc\x0cd"),
        ("see <CHUNK_3> and </CHUNK_3>", "see (CHUNK_3) and (/CHUNK_3)"),
        ("a\ud800b", "a?b"),
        ("tab\tkept\n\nü漢", "tab\tkept\n\nü漢"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected
    assert normalise(normalise(text)) == expected
