"""The validator never raises, whatever is at a path or in a file, and what passes can be loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from verl_longrl.data.schema import SCHEMA, Sample, read_samples, write_samples
from verl_longrl.data.scorer_check import try_scorers
from verl_longrl.data.validate import app, validate_file, validate_rows
from verl_longrl.rewards.options import RewardOptions

FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
MESSAGES = [{"role": "user", "content": "What is the capital?"}]
ROW = {"data_source": "loongrl_qa", "prompt": MESSAGES, "reward_model": {"ground_truth": "Paris", "style": "rule"}}


def lines_of(path) -> list[str]:
    report = validate_file(path)
    assert all(line.isprintable() for line in report.lines())
    return [] if report.ok else report.lines()


def write_table(tmp_path: Path, columns: dict, name: str = "data.parquet") -> Path:
    pq.write_table(pa.table(columns), tmp_path / name)
    return tmp_path / name


# ---- paths


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    problems = {
        tmp_path: "is a folder",
        tmp_path / "pipe": "is not a regular file (a pipe, socket or device)",
        Path("/dev/zero"): "is not a regular file",
        tmp_path / "loop": "cannot be read (Too many levels of symbolic links)",
        tmp_path / "none": "no such file",
        tmp_path / "a\0b": "cannot be read (embedded null byte)",
        tmp_path / ("a" * 300): "cannot be read (File name too long)",
    }
    for path, problem in problems.items():
        (line,) = validate_file(path).lines()
        assert f"{problem}" in line
        assert line.endswith(". Fix: give the path of a parquet file")


def test_the_other_files_are_still_checked(tmp_path, write, make_sample):
    os.mkfifo(tmp_path / "pipe")
    good = write([make_sample()])
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(Path(good).read_bytes()[:-9] + b"\xff" * 5 + b"PAR1")
    done = CliRunner().invoke(app, [str(tmp_path / "pipe"), str(tmp_path), str(damaged), good])
    assert done.exit_code == 1
    assert [line.partition(": ")[2][:12] for line in done.stdout.splitlines()] == [
        "is not a reg",
        "is a folder.",
        "not a readab",
        "ok, 1 rows (",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "no such file"), ("def f(:", "SyntaxError"), ("1 / 0", "ZeroDivisionError"), ("raise SystemExit(3)", "")],
)
def test_a_broken_file_of_scorers_is_one_line(tmp_path, write, make_sample, content, problem):
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    done = CliRunner().invoke(app, [write([make_sample()]), "--scorers", str(tmp_path / "mine.py")])
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert line.startswith("scorers: ")
    assert "mine.py" in line
    assert problem in line


def test_scorers_are_tried_past_files_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "mine.py").write_text(
        "from verl_longrl.rewards import Score, scorer\nscorer('t_past')(lambda *_: Score(1.0))\n"
    )
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    files = [tmp_path / "pipe", tmp_path, write_table(tmp_path, {"data_source": bad, "reward_model": bad})]
    trial = try_scorers(RewardOptions(scorers=(str(tmp_path / "mine.py"),)), files)
    assert (trial.unused, trial.problems) == (["t_past"], [])


# ---- bytes


@settings(FUZZ, max_examples=60)
@given(st.data())
def test_a_damaged_file_is_reported(tmp_path, data):
    path = tmp_path / "good.parquet"
    if not path.exists():
        write_samples(path, [Sample("loongrl_qa", MESSAGES, f"city {i}", i) for i in range(20)])
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1) | st.integers(footer, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    (tmp_path / "damaged.parquet").write_bytes(content[:cut])
    lines_of(tmp_path / "damaged.parquet")


INVALID = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xffParis"]).buffers())


@pytest.mark.parametrize("column", [field.name for field in SCHEMA if field.type == pa.string()])
def test_invalid_utf8_in_a_column(tmp_path, column):
    table = pa.Table.from_pylist([Sample("loongrl_qa", MESSAGES, "Paris", 0).to_row()], schema=SCHEMA)
    path = tmp_path / "data.parquet"
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, INVALID), path)
    (line,) = lines_of(path)
    assert f"row 0: {column}: cannot be decoded (UnicodeDecodeError: " in line


@pytest.mark.parametrize("column", ["prompt", "reward_model", "extra_info"])
def test_invalid_utf8_in_a_field(tmp_path, column):
    rows = [Sample("loongrl_qa", MESSAGES, "Paris", i).to_row() for i in range(3)]
    columns = {name: pa.array([row[name] for row in rows]) for name in ("data_source", "prompt", "reward_model")}
    text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"ok", b"\xff", b"ok"]).buffers())
    struct = pa.StructArray.from_arrays([text, text, text], ["ground_truth", "role", "content"])
    columns[column] = pa.ListArray.from_arrays([0, 1, 2, 3], struct) if column == "prompt" else struct
    lines = lines_of(write_table(tmp_path, columns))
    assert (
        [line for line in lines if "cannot be decoded" in line] == [line for line in lines if "row 1: " in line] != []
    )


def test_a_time_out_of_range_is_named_and_a_foreign_column_is_not_read(tmp_path):
    late = pa.array([1 << 60], pa.timestamp("ms"))
    columns = {name: pa.array([value]) for name, value in ROW.items()}
    assert lines_of(write_table(tmp_path, {**columns, "made": late, "note": INVALID})) == []
    extra = pa.StructArray.from_arrays([late], ["made"])
    (line,) = lines_of(write_table(tmp_path, {**columns, "extra_info": extra}))
    assert "row 0: extra_info: cannot be decoded (" in line


# ---- values


def nested(depth: int) -> str:
    return "[" * depth + "1" + "]" * depth


BAD_VALUES = {  # extra_info, or a ground truth in JSON: the column and the problem
    "int32 overflow": ({"num_chunks": 1 << 40}, "extra_info.num_chunks = 1099511627776 (int): cannot be loaded"),
    "a list as text": ({"question": ["a"]}, "extra_info.question = ['a'] (list): cannot be loaded"),
    "a number as text": ({"split": 5}, "extra_info.split = 5 (int): cannot be loaded"),
    "a number as texts": ({"ref_chunks_text": 5}, "extra_info.ref_chunks_text = 5 (int): wrong value"),
    "a text as texts": ({"ref_chunks_text": "tea"}, "extra_info.ref_chunks_text = 'tea' (str): wrong value"),
    "a number among texts": ({"ref_chunks_text": [5]}, "extra_info.ref_chunks_text = [5] (list): wrong value"),
    "a fixed field in the payload": ({"payload": '{"ref_chunks_text": 5}'}, "extra_info.ref_chunks_text = 5 (int)"),
    "NaN in the payload": ({"payload": '{"x": NaN}'}, "extra_info.payload: NaN is not a number of strict JSON"),
    "infinity in the payload": ({"payload": '{"x": [-Infinity]}'}, "-Infinity is not a number of strict JSON"),
    "a float without end": ({"payload": '{"x": 1e999}'}, "1e999 is not a number of strict JSON"),
    "half a character": ({"payload": '{"x": "\\ud800"}'}, "extra_info.payload = "),
    "a deep payload": ({"payload": f'{{"x": {nested(500)}}}'}, "has more than 100 levels of lists and objects"),
    "a payload without end": ({"payload": nested(100_000)}, "has more than 100 levels of lists and objects"),
    "a long number": ({"payload": f'{{"x": {"9" * 5000}}}'}, "extra_info.payload: Exceeds the limit"),
    "bytes": ({"x": b"\xff"}, "row: cannot be loaded (TypeError: "),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_value_that_cannot_be_loaded_is_named(tmp_path, case):
    extra, problem = BAD_VALUES[case]
    row = {**ROW, "extra_info": extra}
    (line,) = validate_rows([ROW, row, ROW]).lines()
    assert line.startswith("rows: row 1: ")
    assert problem in line
    (line,) = lines_of(write_table(tmp_path, {name: pa.array([value]) for name, value in row.items()}))
    assert problem in line


@pytest.mark.parametrize("truth", [nested(200), nested(100_000), '["Paris", NaN]', "[1e400]"])
def test_a_ground_truth_that_is_not_strict_json(truth):
    row = {**ROW, "reward_model": {"ground_truth": truth, "ground_truth_format": "json"}}
    (line,) = validate_rows([row]).lines()
    assert "rows: row 0: reward_model.ground_truth = " in line
    assert "levels of lists" in line or "strict JSON" in line


def test_a_deep_native_value_is_a_problem_of_its_row():
    deep = ["x"]
    for _ in range(5000):
        deep = [deep]
    for row in ({**ROW, "extra_info": {"x": deep}}, {**ROW, "prompt": deep}, {**ROW, "data_source": deep}):
        report = validate_rows([row, ROW], max_errors=0)
        assert not report.ok
        assert all(line.startswith("rows: row 0: ") for line in report.lines())


@pytest.mark.parametrize("value", [{"x": float("nan")}, {"x": [float("inf")]}, {"x": "\ud800"}])
def test_a_payload_that_would_be_refused_is_not_written(tmp_path, value):
    rows = [Sample("loongrl_qa", MESSAGES, "Paris", i, payload=payload) for i, payload in enumerate([{}, value])]
    with pytest.raises(ValueError, match=r"data.parquet: row 1: "):
        write_samples(tmp_path / "data.parquet", rows)
    assert [line.partition(": row ")[2][:3] for line in validate_rows(rows).lines()] == ["1: "]


# ---- what passes can be loaded

INDICES = {
    "text": (["train-1", "train-2"], [0, 1], ["train-1", "train-2"]),
    "numbers as text": (["7", "8.0"], [7, 8], [None, None]),
    "floats": ([3.0, 4.0], [3, 4], [None, None]),
    "floats with a gap": ([3.0, float("nan")], [3, 1], [None, None]),
    "fractions": ([0.5, 1.5], [0, 1], [0.5, 1.5]),
    "large": (np.array([1 << 63, 2], dtype=np.uint64), [0, 2], [1 << 63, None]),
    "none": ([None, 5], [0, 5], [None, None]),
}


@pytest.mark.parametrize("case", INDICES)
def test_an_index_of_any_type_passes_and_is_kept(tmp_path, case):
    indices, expected, original = INDICES[case]
    extra = pa.StructArray.from_arrays([pa.array(indices)], ["index"])
    path = write_table(tmp_path, {name: pa.array([value] * 2) for name, value in ROW.items()} | {"extra_info": extra})
    assert lines_of(path) == []
    samples = list(read_samples(path))
    assert [sample.index for sample in samples] == expected
    assert [sample.payload.get("original_index") for sample in samples] == original


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=3),
    lambda value: (
        st.lists(value, max_size=3) | st.dictionaries(st.sampled_from(["a", "index", "x"]), value, max_size=2)
    ),
    max_leaves=5,
)


def mostly(good, bad=VALUES):
    return st.integers(0, 9).flatmap(lambda n: good if n else bad)


JSON_TEXT = st.sampled_from(['{"hops": 2}', "{}", "[1]", '{"a": NaN}', '{"index": "x"}', '{"split": 3}', "{"])
EXTRA = st.fixed_dictionaries(
    {},
    optional={
        "index": mostly(st.integers() | st.floats() | st.text(max_size=5)),
        "question": mostly(st.text()),
        "ref_chunks_text": mostly(st.lists(st.text(max_size=3), max_size=2)),
        "num_chunks": mostly(st.integers(0, 1 << 33)),
        "payload": JSON_TEXT,
        "note": st.text(max_size=5) | st.integers() | st.floats() | st.lists(st.integers(), max_size=2),
    },
)
TRUTHS = ["Paris", "5", ["a", "b"], "[1]", "the", "\\boxed{x}", "9^9^9^9", "a}", {"a": "b"}, "?"]
ROWS = st.fixed_dictionaries(
    {
        "data_source": mostly(st.sampled_from(["loongrl_qa", "math", "EM", "longrlvr", "golongrl_table"])),
        "prompt": mostly(
            st.just(MESSAGES), st.lists(st.fixed_dictionaries({"role": VALUES, "content": VALUES}), max_size=2)
        ),
        "reward_model": st.fixed_dictionaries(
            {"ground_truth": mostly(st.sampled_from(TRUTHS))},
            optional={"style": mostly(st.just("rule")), "ground_truth_format": st.sampled_from(["text", "json", None])},
        ),
        "extra_info": mostly(EXTRA),
    },
    optional={"ability": mostly(st.text(max_size=5)), "prompt_tokens": VALUES, "other": VALUES},
)


@settings(FUZZ, max_examples=150)
@given(st.lists(ROWS, min_size=1, max_size=2))
def test_any_rows_are_checked_and_load_if_they_pass(tmp_path, rows):
    report = validate_rows(rows, max_errors=0)
    if report.ok:
        assert len(list(read_back(tmp_path, rows))) == len(rows)
    try:
        path = write_table(tmp_path, {"prompt": MESSAGES, **pa.Table.from_pylist(rows).to_pydict()})
    except (pa.ArrowException, ValueError, OverflowError):
        return
    if not lines_of(path):
        assert len(list(read_samples(path))) == len(rows)


def read_back(tmp_path, rows):
    from verl_longrl.data.schema import read_sample

    samples = [read_sample(row, number) for number, row in enumerate(rows)]
    write_samples(tmp_path / "written.parquet", samples)
    assert lines_of(tmp_path / "written.parquet") == []
    return read_samples(tmp_path / "written.parquet")


@pytest.mark.engine
@settings(FUZZ, max_examples=12)
@given(EXTRA)
def test_what_passes_is_loaded_as_for_training(tmp_path, extra):
    from verl_longrl.data.dataset import load_file

    try:
        path = write_table(tmp_path, {name: pa.array([value]) for name, value in {**ROW, "extra_info": extra}.items()})
    except (pa.ArrowException, ValueError, OverflowError):
        return
    if not lines_of(path):
        (row,) = load_file(str(path), cache_dir=tmp_path / "cache")
        assert json.dumps(row)
