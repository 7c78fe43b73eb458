"""Files are read by the layout that fits them; what is no sample stands in its place; the unreadable is an error."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import released_golongrl
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.rewards import score
from verl_longrl.rewards.tasks.golongrl import task_name

from data_gen.answer_templates import render_response
from data_gen.document_readers import CorpusError
from data_gen.importers.fields import Unusable
from data_gen.importers.layouts import file_layout, layout_of, read_rows

ASKED = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    '$Answer.\n\nWhat is 1+1?\n\nRemember to put your answer on its own line after "Answer:".'
)
DAPO = {
    "data_source": "math_dapo",
    "prompt": [{"role": "user", "content": ASKED}],
    "reward_model": {"ground_truth": "2", "style": "rule"},
    "extra_info": {"index": "9a9b"},
}
MATH = {"problem": "What is 1+1?", "answer": "2"}
MATHQA = {"Problem": "what is 1 + 1 ?", "options": "a ) 1 , b ) 2", "correct": "b", "category": "general"}
DOCUMENT = {"context": "Ann built the mill.", "question": "Who?", "answer": "Ann"}
PRO = {
    "context": "Ann built the mill.",
    "question_nonthinking": "Who?",
    "question_thinking": "Think. Who?",
    "answer": ["Ann"],
    "secondary_task": "T5.2 Key-Statement Citation Alignment",
}
CHOICES = {"context": "Ann built the mill.", "question": "Who?", "choice_A": "Bo", "choice_B": "Ann", "answer": "B"}
TABLES = {
    "tables": ['{"columns": ["a"], "data": [[1]]}'],
    "query": "select a",
    "answer": '{"columns": ["a"], "data": [[1]]}',
}
RELEASED = {
    "data_source": "custom_longcontextqa_hotpot",
    "prompt": [{"role": "user", "content": "Passages. Question: who?"}],
    "ability": "longcontext_qa",
    "reward_model": {"style": "rule", "ground_truth": ["Ada"]},
    "extra_info": {"split": "train", "index": "a-7", "level": "hard"},
    "context": "Passages.",
}


def write(folder, name, rows):
    """The rows in a file of the kind its name says."""
    path = folder / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    text = "".join(json.dumps(row) + "\n" for row in rows) if ".jsonl" in name else json.dumps(rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json", "a.jsonl.gz"])
@pytest.mark.parametrize(
    ("row", "layout", "task", "truth"),
    [
        (DAPO, "dapo", "math", "2"),
        (MATH, "math", "math", "2"),
        (MATHQA, "mathqa", "loongrl_choice", "B"),
        (RELEASED, "rows", "custom_longcontextqa_hotpot", ["Ada"]),
        (DOCUMENT, "document", "golongrl_qa", "Ann"),
        (PRO, "document", "golongrl_exhaustive", ["Ann"]),
        (CHOICES, "choices", "golongrl_choice", "B"),
        (TABLES, "tables", "golongrl_table", {"columns": ["a"], "data": [[1]]}),
        (TABLES | DOCUMENT, "tables", None, None),
    ],
)
def test_every_layout_is_known_by_its_fields(tmp_path, name, row, layout, task, truth):
    path = write(tmp_path, name, [row, row])
    assert file_layout(path) == layout
    rows = list(read_rows(path, layout))
    place = "line 2" if "jsonl" in name else "row 1"
    assert [r.number for r in rows] == [0, 1]
    assert rows[1].where == f"{path}: {place}"
    if task:
        assert (rows[0].result.data_source, rows[0].result.ground_truth) == (task, truth)


def test_ready_rows_pass_through(tmp_path):
    sample = Sample(
        "loongrl_keychain",
        [{"role": "user", "content": "text"}],
        ["Ada", "Ada L."],
        index=3,
        question="Who?",
        payload={"keys": ["a"]},
        prompt_tokens=9,
        tokenizer_fingerprint="f",
    )
    write_samples(tmp_path / "a.parquet", [sample])
    (row,) = read_rows(tmp_path / "a.parquet", "rows")
    assert row.result == Sample(**{**vars(sample), "index": 0})
    (row,) = read_rows(write(tmp_path, "b.jsonl", [RELEASED]), "rows")
    assert row.result.payload == {"level": "hard"}


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_rows_of_golongrls_release_pass_as_they_are(tmp_path, name):
    released = released_golongrl.rows()
    read_back = [row.result for row in read_rows(write(tmp_path, name, released), "rows")]
    assert len(read_back) == len(released) == 58
    for sample, row in zip(read_back, released, strict=True):
        truth, task = row["reward_model"]["ground_truth"], task_name(sample.data_source, sample.payload)
        assert (sample.data_source, sample.prompt, sample.ground_truth) == (row["data_source"], row["prompt"], truth)
        gold = truth["golden_label"] or truth["doc_ids"]
        if task in ("golongrl_qa", "golongrl_summary"):
            gold = gold[0]
        elif task == "golongrl_choice":
            gold = "B"
        elif task == "golongrl_table":
            gold = released_golongrl.TABLE
        scored = score(sample.data_source, render_response(task, gold, truth["summary"]), truth, sample.payload)
        assert (scored.value, scored.status) == (1, "ok")


def test_what_is_no_sample_stands_in_its_place(tmp_path):
    unknown = RELEASED | {"data_source": "mine"}
    empty = RELEASED | {"prompt": []}
    rows = read_rows(write(tmp_path, "a.jsonl", [RELEASED, unknown, empty, {}, RELEASED]), "rows")
    found = [row.result for row in rows]
    assert [getattr(f, "reason", "") for f in found] == ["", "invalid", "invalid", "invalid", ""]
    assert "data_source = 'mine': no scorer has this name" in str(found[1])
    assert "prompt: is empty" in str(found[2])


def test_only_the_rows_wanted_are_read_and_nothing_after_them(tmp_path):
    path = write(tmp_path, "a.jsonl", [MATH, {}, MATH, MATH])
    path.write_text(path.read_text() + "broken\n")
    assert [row.number for row in read_rows(path, "math", only={0, 2})] == [0, 2]
    assert list(read_rows(path, "math", only=())) == []
    assert isinstance(next(read_rows(path, "math", only={1})).result, Unusable)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, r"no layout fits \(fields found: text; rows has data_source, .*name the layout\)?$"),
        ({"question": "a", "answer": "b", "passages": []}, r"make prompts of it with data_gen.keychain first"),
        (
            {"question": "a", "answer": "b", "context": [["t", ["s"]]]},
            r"make prompts of it with data_gen.keychain first",
        ),
        (
            {"context": "a", "question": "b"},
            r"document has context \(a text\), question or question_nonthinking, answer",
        ),
        ({}, r"the row has no fields"),
    ],
)
def test_a_row_that_fits_no_layout_says_what_would(row, message):
    with pytest.raises(CorpusError, match=message):
        layout_of(row)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"problem": "a", "answer": 1}\n{"problem', r"a\.jsonl: line 2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl: line 1: found list, expected an object"),
        ("a.json", "{", r"a\.json: cannot be read"),
        ("a.parquet", "PAR", r"a\.parquet: cannot be read"),
        ("a.json", "[]", r"a\.json: has no rows; leave it out"),
        ("a.json", '{"data": []}', r"a\.json: row 0: no layout fits \(fields found: data"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(CorpusError, match=message):
        list(read_rows(path, file_layout(path)))
