"""What stands in a benchmark is found, wherever it is: 13 words in a row of a longer text, 8 to 12 of a short one."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_gen.decontaminate import Benchmarks, hash_ngrams
from data_gen.document_readers import CorpusError

WORDS = [f"w{i}" for i in range(40)]
LONG = " ".join(WORDS)
KINGS = "in which year did the last of the kings of hull die"
SHORT = "The united states of America."


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"q": "Who was it?", "deep": [{"context": LONG}]}) + "\n")
    (tmp_path / "b.txt").write_text("Which of the two rivers is longer?")
    (tmp_path / "d.json").write_text(json.dumps(["In which year did the last of the kings of Hull die?", SHORT]))
    pq.write_table(pa.table({"question": ["天地玄黄宇宙洪荒日月盈昃辰宿列张"]}), tmp_path / "c.parquet")
    return [tmp_path / name for name in ("a.jsonl", "b.txt", "c.parquet", "d.json")]


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
        ("united states of america", ""),
        ("the United States of America", "the united states of america"),
        ("He came from the United States of America to Hull, where he was a printer.", ""),  # what anybody may say
        (f"They asked me: {KINGS}? I knew it not, and said so, and went.", KINGS),  # a benchmark's question, in a text
        (f"And {KINGS}?", KINGS),
        ("the last of the kings of Hull die", "the last of the kings of hull die"),  # a question, in a benchmark's text
        ("the last of the kings of Hull", ""),
        (" ".join(WORDS[20:29]), " ".join(WORDS[20:29])),
        (" ".join(WORDS[38:]) + " which of the two rivers is", ""),  # across two texts of the benchmark
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
    forth = np.arange(40, dtype=np.uint64)
    assert len(hash_ngrams(forth, 13)) == 28
    assert not set(hash_ngrams(forth, 2).tolist()) & set(hash_ngrams(forth[::-1].copy(), 2).tolist())
    assert len(hash_ngrams(forth[:2], 13)) == 0


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"none.jsonl: cannot be read"):
        Benchmarks([tmp_path / "none.jsonl"])
    (tmp_path / "bad.jsonl").write_text("{}\n{\n")
    with pytest.raises(CorpusError, match=r"bad.jsonl: line 2: not JSON"):
        Benchmarks([tmp_path / "bad.jsonl"])
