"""13 words in a row that stand in a benchmark are found, wherever they are; 12 are not."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_gen.corpora import CorpusError
from data_gen.decontaminate import Benchmarks, ngrams

WORDS = [f"w{i}" for i in range(40)]
LONG = " ".join(WORDS)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"q": "Who was it?", "deep": [{"context": LONG}]}) + "\n")
    (tmp_path / "b.txt").write_text("Which of the two rivers is longer?")
    pq.write_table(pa.table({"question": ["天地玄黄宇宙洪荒日月盈昃辰宿列张"]}), tmp_path / "c.parquet")
    return [tmp_path / name for name in ("a.jsonl", "b.txt", "c.parquet")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("before " + " ".join(WORDS[5:18]) + " after and more", " ".join(WORDS[5:18])),
        ("Before, W5 w6; " + " ".join(WORDS[7:18]).upper() + "!", " ".join(WORDS[5:18])),
        ("before " + " ".join(WORDS[5:17]) + " after and more of it", ""),
        (" ".join(WORDS[27:40]), " ".join(WORDS[27:40])),
        (" ".join(reversed(WORDS)), ""),
        ("which of the two rivers is longer", "which of the two rivers is longer"),
        ("which of the two rivers is shorter", ""),
        ("who was it", ""),  # too short to mean anything
        ("他说：天地玄黄，宇宙洪荒，日月盈昃", "天 地 玄 黄 宇 宙 洪 荒 日 月 盈 昃 辰"[:0]),
        ("他说：天地玄黄，宇宙洪荒，日月盈昃，辰宿", "天 地 玄 黄 宇 宙 洪 荒 日 月 盈 昃 辰"),
        ("", ""),
    ],
)
def test_overlap(files, text, found):
    assert Benchmarks(files).overlap(text) == found


def test_without_benchmarks_nothing_is_found():
    assert Benchmarks([]).overlap(LONG) == ""
    assert len(Benchmarks([])) == 0


def test_ngrams_are_as_many_as_they_are_and_order_counts():
    assert len(ngrams(LONG, 13)) == 28
    assert len(set(ngrams(LONG, 2).tolist()) & set(ngrams(" ".join(reversed(WORDS)), 2).tolist())) == 0
    assert len(ngrams("a b", 13)) == 0


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"none.jsonl: cannot be read"):
        Benchmarks([tmp_path / "none.jsonl"])
    (tmp_path / "bad.jsonl").write_text("{}\n{\n")
    with pytest.raises(CorpusError, match=r"bad.jsonl: line 2: not JSON"):
        Benchmarks([tmp_path / "bad.jsonl"])
