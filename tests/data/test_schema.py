"""Samples are read back as they were written, atomically, in one schema, without heavy imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verl_longrl.data import schema
from verl_longrl.data.schema import (
    SCHEMA,
    Sample,
    decode_extra_info,
    decode_ground_truth,
    read_rows,
    read_samples,
    write_samples,
)

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    "truth",
    ["door nine", "[1, 2]", '{"a": 1}', ["a", "b"], {"doc_ids": ["x"], "golden_label": "y"}, [["a"], 1]],
)
def test_ground_truth_of_any_shape_round_trips(write, make_sample, truth):
    path = write([make_sample(ground_truth=truth)])
    assert next(read_samples(path)).ground_truth == truth
    assert decode_ground_truth(next(read_rows(path))["reward_model"]) == truth


@given(
    truth=st.one_of(st.text(), st.lists(st.text()), st.dictionaries(st.text(), st.text())),
    payload=st.dictionaries(
        st.text().filter(lambda k: k not in schema.EXTRA_INFO_FIELDS), st.one_of(st.text(), st.integers())
    ),
    index=st.integers(0, 2**62),
)
def test_sample_and_row_are_inverse(truth, payload, index):
    payload = {name: value for name, value in payload.items() if value is not None}
    sample = Sample("math", MESSAGES, truth, index, payload=payload)
    assert Sample.from_row(sample.to_row()) == sample


def test_samples_round_trip_through_a_file_of_small_row_groups(write, make_sample):
    samples = [make_sample(i, payload={"hops": i, "names": ["é"]}) for i in range(300)]
    path = write(iter(samples))
    assert list(read_samples(path)) == samples
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [128, 128, 44]
    assert file.schema_arrow.equals(SCHEMA)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_same_samples_same_bytes(tmp_path, make_sample):
    for name in "ab":
        write_samples(tmp_path / name, [make_sample(i, payload={"b": 1, "a": 2}) for i in range(5)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_rows_may_be_dicts_with_task_fields_in_extra_info(write):
    row = {
        "data_source": "math",
        "prompt": MESSAGES,
        "reward_model": {"ground_truth": ["1", "2"]},
        "extra_info": {"index": 4, "hops": 3, "payload": {"level": "hard"}},
    }
    stored = next(read_rows(write([row])))
    extra = decode_extra_info(stored["extra_info"])
    assert extra["index"] == 4
    assert extra["hops"] == 3
    assert extra["level"] == "hard"
    assert "ref_chunks" not in extra
    assert decode_extra_info(extra) == extra


def test_released_rows_can_be_read(tmp_path):
    """Foreign columns and fields, a list as ground truth, no index, one row group."""
    rows = [
        {
            "prompt": MESSAGES,
            "data_source": "custom_longcontextqa_x",
            "reward_model": {"ground_truth": ["a"]},
            "extra_info": {"question": "q", "ref_chunks": [0], "ref_chunks_text": ["t"], "reward_mode": "em"},
            "context": "long",
        }
    ] * 2
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "released.parquet")
    samples = list(read_samples(tmp_path / "released.parquet"))
    assert [s.index for s in samples] == [0, 1]
    assert samples[0].ground_truth == ["a"]
    assert samples[0].payload == {"reward_mode": "em"}


def test_rows_of_ours_without_index_are_numbered(write, make_sample):
    assert [s.index for s in read_samples(write([make_sample(index=None) for _ in range(3)]))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"extra_info": {"ref_chunks": "[1, 2]"}},
            r"row 1: extra_info.ref_chunks = '\[1, 2\]' \(str\): expected list",
        ),
        ({"extra_info": {"index": "a"}}, r"row 1: extra_info.index = 'a' \(str\): expected int64"),
        ({"colour": "red"}, r"row 1: unknown columns \['colour'\]"),
        ({"reward_model": {}}, "row 1: no ground_truth"),
    ],
)
def test_a_wrong_value_is_named_and_leaves_no_file(tmp_path, make_row, change, message):
    with pytest.raises(ValueError, match=message):
        write_samples(tmp_path / "bad.parquet", [make_row(), make_row() | change])
    assert list(tmp_path.iterdir()) == []


def test_no_rows_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no samples to write"):
        write_samples(tmp_path / "empty.parquet", [])


def test_payload_cannot_shadow_fixed_fields(make_sample):
    with pytest.raises(ValueError, match=r"payload has \['split'\]"):
        make_sample(payload={"split": "x"}).to_row()


def test_killed_in_the_middle_leaves_the_old_file(tmp_path, write, make_sample):
    path = write([make_sample()])
    script = textwrap.dedent("""
        import sys, time
        from verl_longrl.data.schema import Sample, write_samples
        def rows():
            for i in range(300):
                yield Sample("math", [{"role": "user", "content": "x"}], "1", i)
            print("writing", flush=True)
            time.sleep(60)
        write_samples(sys.argv[1], rows())
    """)
    process = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(read_samples(path)) == [make_sample()]
    assert not [p for p in tmp_path.glob("*.parquet") if str(p) != path]


def test_importing_schema_prompt_and_validate_is_light():
    script = (
        "import sys, verl_longrl.data.schema, verl_longrl.data.prompt, verl_longrl.data.validate;"
        "from verl_longrl.data.validate import validate_rows; validate_rows([{'data_source': 'longrlvr'}]);"
        "heavy = {'torch', 'ray', 'verl', 'vllm', 'transformers', 'datasets'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
