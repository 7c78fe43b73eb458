"""Existing sets of GoLongRL's kinds of task in one mix: the release as it is, both LongBench's, tables, plain rows."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import released_golongrl
from verl_longrl.data.schema import read_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import score
from verl_longrl.rewards.tasks.golongrl import LONGBENCH_PRO, TASKS

from data_gen.answer_templates import render_response
from data_gen.mix.config import MixConfig
from data_gen.mix.write_mix import TRAIN, write_mix

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]  # transformers' tokenizers are imported

TEXT = "{} In 1881 Ann built the mill , and in 1902 Cy burnt it ."
TABLE = json.dumps({"columns": ["who", "n"], "index": [0], "data": [["Ann", 1]]})
PRO = [
    {
        "context": TEXT.format(name),
        "question_nonthinking": "What ?",
        "answer": released_golongrl.ITEMS[task],
        "secondary_task": name,
        "language": language,
    }
    for name, task in LONGBENCH_PRO.items()
    for language in ("English", "Chinese")
]
CHOICES = [
    {"context": TEXT.format(i), "question": "Who ?", "choice_A": "Ann", "choice_B": "Cy", "answer": "AB"[i % 2]}
    for i in range(4)
]
TABLES = [{"tables": [TABLE], "query": f"select {i}", "answer": TABLE} for i in range(3)]
PLAIN = [{"context": TEXT.format(i), "question": "Who ?", "answer": "Cy"} for i in range(5)]
PLAIN += [row | {"task": task, "answer": "Cy"} for row in PLAIN for task in ("retrieval", "math", "rhyme")]


def test_the_open_track_becomes_one_file_that_can_be_trained_on(tmp_path, files):
    pq.write_table(pa.Table.from_pylist(released_golongrl.rows()), tmp_path / "golongrl.parquet")
    for name, rows in (("pro", PRO), ("choices", CHOICES), ("tables", TABLES), ("plain", PLAIN)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    sources = [
        str(tmp_path / name) for name in ("golongrl.parquet", "pro.json", "choices.json", "tables.json", "plain.json")
    ]
    report = write_mix(MixConfig.load(None, sources, tokenizer=str(files / "tokenizer")), tmp_path / "mix")
    assert [entry["layouts"][0] for entry in report.sources()] == ["rows", "document", "choices", "tables", "document"]
    assert [entry["taken"] for entry in report.sources()] == [58, 50, 4, 3, 15]
    assert report.sources()[-1]["dropped"] == {"unknown_task": 5}
    assert set(report.tasks()) == set(TASKS)  # of released rows too, so that statistics by task do not mix them up
    assert validate_file(tmp_path / "mix" / TRAIN).ok

    for sample in read_samples(tmp_path / "mix" / TRAIN):
        truth, language = sample.ground_truth, sample.payload.get("language", "English")
        if sample.data_source.startswith("golongrl_"):
            scored = score(
                sample.data_source, render_response(sample.data_source, truth, language), truth, sample.payload
            )
            assert scored.status == "ok"
            assert scored.value == 1 or sample.task == "golongrl_summary"  # of two references only one is met
        else:
            assert set(truth) == {"doc_ids", "golden_label", "summary"}
