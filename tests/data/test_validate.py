"""Every bad file has its own message; a good file gets one line and exit 0."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import released_golongrl
from typer.testing import CliRunner
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.validate import app, validate_file, validate_rows


def test_special_tokens_are_those_of_the_tokenizer_if_there_is_one(write, make_sample, tokenizer, tmp_path):
    for text, ok_without, ok_with in (("<|im_end|>", False, True), ("a <s> b", True, False), ("<unk>", True, True)):
        path = write(
            [
                make_sample(
                    prompt=grounded_prompt(["a", "b", text], "q"), num_chunks=3, ref_chunks=[0], ref_chunks_text=None
                )
            ]
        )
        assert validate_file(path).ok == ok_without
        assert validate_file(path, tokenizer=tokenizer, cache_dir=tmp_path).ok == ok_with


def test_rows_of_golongrls_release_are_good(tmp_path):
    path = write_table(tmp_path, released_golongrl.rows())
    sources = "EM 2, longbench_pro 50, math_longcot_math_verify 2, multitableqa_pretraining 2, selection 2"
    assert validate_file(path).lines() == [f"{path}: ok, 58 rows ({sources})"]


def test_repeated_index_is_a_warning(make_sample):
    report = validate_rows([make_sample(3), make_sample(3)])
    assert report.ok
    assert report.warnings == ["rows: extra_info.index: 1 rows repeat another row's index"]


def write_table(tmp_path, rows, **options) -> str:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet", **options)
    return str(tmp_path / "data.parquet")


def test_file_missing(tmp_path):
    assert "none.parquet: no such file. Fix: " in validate_file(tmp_path / "none.parquet").lines()[0]


def test_not_parquet(tmp_path):
    (tmp_path / "data.parquet").write_text("hello")
    assert "not a readable parquet file" in validate_file(tmp_path / "data.parquet").lines()[0]


def test_half_a_file(tmp_path, write, make_sample):
    path = tmp_path / "half.parquet"
    path.write_bytes(Path(write([make_sample()])).read_bytes()[:-200])
    assert "not a readable parquet file" in validate_file(path).lines()[0]


def test_damaged_pages(tmp_path, write, make_sample):
    data = bytearray(Path(write([make_sample(i) for i in range(50)])).read_bytes())
    data[40:400] = bytes(360)
    (tmp_path / "damaged.parquet").write_bytes(data)
    assert "cannot be read to its end" in validate_file(tmp_path / "damaged.parquet").lines()[0]


def test_no_rows(tmp_path, make_row):
    pq.write_table(pa.Table.from_pylist([make_row()]).slice(0, 0), tmp_path / "data.parquet")
    assert "no rows. Fix: " in validate_file(tmp_path / "data.parquet").lines()[0]


@pytest.mark.parametrize("column", ["data_source", "prompt", "reward_model"])
def test_missing_column(tmp_path, make_row, column):
    row = make_row()
    del row[column]
    (line,) = validate_file(write_table(tmp_path, [row])).lines()
    assert f"{column}: column is missing (columns: " in line


def test_missing_ground_truth_field(tmp_path, make_row):
    path = write_table(tmp_path, [make_row() | {"reward_model": {"style": "rule"}}])
    assert "reward_model.ground_truth: column is missing" in validate_file(path).lines()[0]


def test_string_typed_ref_chunks_in_a_file(tmp_path, make_row):
    row = make_row()
    row["extra_info"]["ref_chunks"] = "[1, 2]"
    assert (
        "row 0: extra_info.ref_chunks = '[1, 2]' (str): wrong value"
        in validate_file(write_table(tmp_path, [row])).lines()[0]
    )


def test_released_file_is_good_with_a_warning(tmp_path, make_row):
    """No prompt_tokens, no index, one huge row group."""
    row = make_row()
    released = {
        "prompt": row["prompt"],
        "data_source": "longrlvr",
        "reward_model": {"ground_truth": "door nine"},
        "extra_info": {k: row["extra_info"][k] for k in ("question", "ref_chunks", "ref_chunks_text")},
    }
    report = validate_file(write_table(tmp_path, [released] * 200))
    assert report.ok, report.lines()
    assert "row groups hold up to 200 rows, expected at most 128" in report.warnings[0]


def test_over_long_prompts(write, make_sample):
    path = write([make_sample(i, prompt_tokens=100 + i, tokenizer_fingerprint="f") for i in range(3)])
    assert validate_file(path, max_prompt_length=102).ok
    (line,) = validate_file(path, max_prompt_length=101).lines()
    assert (
        "row 2: prompt_tokens = 102: more than max_prompt_length = 101, and a prompt is never truncated. Fix: " in line
    )


def test_unknown_lengths_are_not_taken_for_short(write, make_sample):
    (line,) = validate_file(write([make_sample()]), max_prompt_length=1000).lines()
    assert "prompt_tokens: missing in 1 rows" in line


def test_errors_are_capped_and_counted(make_row):
    rows = [make_row() | {"data_source": "nope"} for _ in range(30)]
    lines = validate_rows(rows, max_errors=5).lines()
    assert len(lines) == 6
    assert lines[-1] == "rows: 25 more problems; show all with --max-errors 0"
    assert len(validate_rows(rows, max_errors=0).lines()) == 30


def test_command_line(tmp_path, write, make_sample):
    good = write([make_sample(i, prompt_tokens=90, tokenizer_fingerprint="f") for i in range(3)])
    done = CliRunner().invoke(app, [good])
    assert done.exit_code == 0
    assert done.stdout == f"{good}: ok, 3 rows (longrlvr 3); prompt tokens mean 90, longest 90\n"

    done = CliRunner().invoke(app, [good, str(tmp_path / "no.parquet"), "--max-prompt-length", "80"])
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 4


def test_module_runs():
    done = subprocess.run([sys.executable, "-m", "verl_longrl.data.validate", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for text in ("FILE", "--tokenizer", "--max-prompt-length", "--max-errors", "exit 1"):
        assert text in done.stdout
