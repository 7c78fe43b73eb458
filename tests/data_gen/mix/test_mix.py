"""A mix is as many rows of each source as asked for, each once, by seed; whatever is left out is counted."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Sample, read_samples, write_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import score

from data_gen.config import ConfigError
from data_gen.document_readers import CorpusError
from data_gen.mix import write_mix as write_mix_module
from data_gen.mix.__main__ import app
from data_gen.mix.config import MixConfig
from data_gen.mix.write_mix import TRAIN, write_mix

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]  # transformers' tokenizers are imported

EVERY = ("keychain/train.parquet:weight=3", "plain/train.parquet:weight=1", "dapo.jsonl:count=50", "mathqa.json")


def run(files, output, sources=EVERY, total=200, **given):
    given = {"tokenizer": str(files / "tokenizer"), "total": total, **given}
    return write_mix(MixConfig.load(None, [str(files / source) for source in sources], **given), output)


def samples(output):
    return list(read_samples(output / TRAIN))


def test_a_mix_holds_what_was_asked_for(files, tmp_path, tokenizer):
    report = run(files, tmp_path, max_prompt_tokens=4000, benchmarks=[str(files / "benchmark.jsonl")])
    mixed = samples(tmp_path)
    taken = Counter(sample.payload["source"] for sample in mixed)
    assert taken == {"keychain/train.parquet": 68, "plain/train.parquet": 22, "dapo.jsonl": 50, "mathqa.json": 60}
    assert [sample.index for sample in mixed] == list(range(200))
    assert {sample.split for sample in mixed} == {"train"}
    assert len({sample.prompt[0]["content"] for sample in mixed}) == 200
    assert PromptCounter(tokenizer).count([s.prompt for s in mixed]) == [s.prompt_tokens for s in mixed]
    assert validate_file(tmp_path / TRAIN, tokenizer=tokenizer, max_prompt_length=4000).ok
    assert all(pq.ParquetFile(tmp_path / TRAIN).metadata.row_group(i).num_rows <= 128 for i in range(2))
    for sample in mixed:
        gold = sample.ground_truth if isinstance(sample.ground_truth, str) else sample.ground_truth[0]
        assert score(sample.data_source, f"</think>\\boxed{{{gold}}}", sample.ground_truth).value == 1.0

    keychain, plain, dapo, mathqa = report.sources()
    assert keychain["dropped"] == {"contaminated": 1, "too_long": 6}
    assert re.search(r"train\.parquet: row 7: \d+ tokens > 4000", keychain["first_dropped"]["too_long"])
    assert plain["dropped"] == {"duplicate": 1, "too_long": 1}
    assert plain["first_dropped"]["duplicate"].endswith(f"the same prompt as {files}/keychain/train.parquet: row 0")
    assert dapo["dropped"] == {"duplicate": 30, "no_answer": 1}
    assert mathqa["dropped"] == {"letter_outside": 1, "no_options": 1, "no_problem": 1}
    assert all(e["rows"] == e["usable"] + sum(e["dropped"].values()) for e in report.sources())
    written = json.loads((tmp_path / "mix.json").read_text())
    assert (written["rows"], written["sources"]) == (200, report.sources())
    tasks = Counter(sample.task for sample in mixed)
    assert {task: entry["rows"] for task, entry in written["tasks"].items()} == tasks
    assert sum(entry["tokens"] for entry in written["tasks"].values()) == sum(s.prompt_tokens for s in mixed)
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "mix.json", TRAIN]


def test_rows_keep_what_they_had_and_say_where_they_come_from(files, tmp_path):
    run(files, tmp_path)
    originals = {s.prompt[0]["content"]: s for s in read_samples(files / "keychain" / TRAIN)}
    for sample in samples(tmp_path):
        if sample.data_source == "loongrl_keychain":
            original = originals[sample.prompt[0]["content"]]
            same = ("ground_truth", "question", "task", "prompt_tokens", "tokenizer_fingerprint")
            assert all(getattr(sample, name) == getattr(original, name) for name in same)
            assert sample.payload == {
                "source": "keychain/train.parquet",
                "origin": original.payload["source"],
                "keys": ["a", "b"],
            }
        elif sample.data_source == "math":
            assert sample.payload["origin"].startswith("dapo.jsonl: line ")
        elif sample.data_source == "loongrl_qa":
            assert sample.task == "loongrl_qa"
    run(files, tmp_path / "again", [str(tmp_path / TRAIN)], total=None)
    again = {s.prompt[0]["content"]: s.payload for s in samples(tmp_path / "again")}
    for sample in samples(tmp_path):
        payload = again[sample.prompt[0]["content"]]
        assert (payload["source"], payload["origin"]) == (TRAIN, sample.payload["origin"])


def test_the_same_seed_gives_the_same_bytes_wherever_the_files_are(files, tmp_path):
    shutil.copytree(files, tmp_path / "elsewhere")
    run(files, tmp_path / "a", seed=3)
    run(tmp_path / "elsewhere", tmp_path / "b", seed=3)
    run(files, tmp_path / "b", seed=3)  # a mix may be made again in its place
    run(files, tmp_path / "c", seed=4)
    bytes_of = {name: (tmp_path / name / TRAIN).read_bytes() for name in "abc"}
    assert bytes_of["a"] == bytes_of["b"] != bytes_of["c"]
    prompts = {name: {s.prompt[0]["content"] for s in samples(tmp_path / name)} for name in "ac"}
    assert prompts["a"] != prompts["c"]


def test_more_rows_of_a_source_are_those_there_were_and_others(files, tmp_path):
    few = run_prompts(files, tmp_path / "few", "keychain/train.parquet:count=40")
    many = run_prompts(files, tmp_path / "many", "keychain/train.parquet:count=120")
    assert set(few) < set(many)
    order = [prompt for prompt in many if prompt in set(few)]
    assert order == few
    original = [s.prompt[0]["content"] for s in read_samples(files / "keychain" / TRAIN)]
    assert many != sorted(many, key=original.index)


def run_prompts(files, output, *sources):
    run(files, output, sources, total=None)
    return [sample.prompt[0]["content"] for sample in samples(output)]


def test_sources_are_mixed_throughout(files, tmp_path):
    run(files, tmp_path, ["keychain/train.parquet:count=200", "mathqa.json"], total=None)
    tasks = [sample.task for sample in samples(tmp_path)]
    quarters = [tasks[i : i + 65].count("loongrl_choice") for i in range(0, 260, 65)]
    assert sum(quarters) == 60
    assert min(quarters) >= 5


def test_too_few_rows_are_an_error_unless_they_may_repeat(files, tmp_path):
    sources = ["mathqa.json:count=150", "dapo.jsonl:weight=1"]
    with pytest.raises(ConfigError) as caught:
        run(files, tmp_path, sources, total=300)
    first, second = str(caught.value).splitlines()
    dropped = "letter_outside 1, no_options 1, no_problem 1"
    assert f"mathqa.json: 150 rows needed, 60 usable among 63 ({dropped}). Fix: lower the count" in first
    assert "dapo.jsonl: 150 rows needed, 90 usable among 121 (duplicate 30, no_answer 1)" in second
    assert not list(tmp_path.iterdir())

    run(files, tmp_path, [source + ",repeat=true" for source in sources], total=300)
    times = Counter((sample.task, sample.prompt[0]["content"]) for sample in samples(tmp_path))
    assert Counter(times.values()) == {3: 30, 2: 30 + 60, 1: 30}
    assert [sample.index for sample in samples(tmp_path)] == list(range(300))


def test_lengths_of_another_tokenizer_are_counted_anew(files, tmp_path, tokenizer):
    rows = list(read_samples(files / "keychain" / TRAIN))[:5]
    others = [type(row)(**vars(row) | {"prompt_tokens": 1, "tokenizer_fingerprint": "other"}) for row in rows]
    write_samples(tmp_path / "other.parquet", [*others[:3], *rows[3:]])
    run(files, tmp_path / "mix", [str(tmp_path / "other.parquet")], total=None)
    counted = {sample.question: sample.prompt_tokens for sample in samples(tmp_path / "mix")}
    assert counted == {row.question: row.prompt_tokens for row in rows}


def test_a_row_without_a_question_is_compared_by_its_prompt(files, tmp_path):
    rows = list(read_samples(files / "plain" / TRAIN))[:8]
    bare = [type(row)(**vars(row) | {"question": ""}) for row in rows]
    write_samples(tmp_path / "bare.parquet", bare)
    (tmp_path / "benchmark.txt").write_text(rows[2].prompt[0]["content"][:400])
    benchmarks = [str(tmp_path / "benchmark.txt")]
    report = run(files, tmp_path / "mix", [str(tmp_path / "bare.parquet")], total=None, benchmarks=benchmarks)
    assert report.sources()[0]["dropped"] == {"contaminated": 1}


def test_a_text_that_is_shown_is_compared_and_what_all_prompts_say_is_not(files, tmp_path):
    rules = " ".join(f"rule {i}: say nothing but the answer" for i in range(9))
    rows = [Sample(**vars(row) | {"index": 0}) for row in list(read_samples(files / "plain" / TRAIN))[:8]]
    for row in rows:
        row.prompt[0]["content"] += f"\n\n{row.question}\n\n{rules}"
    write_samples(tmp_path / "rows.parquet", rows)
    copied = rows[3].prompt[0]["content"].split()[300:313]
    (tmp_path / "benchmark.json").write_text(json.dumps([{"context": f"And {' '.join(copied)}."}, rules]))
    benchmarks = [str(tmp_path / "benchmark.json")]
    report = run(files, tmp_path / "mix", [str(tmp_path / "rows.parquet")], total=None, benchmarks=benchmarks)
    assert report.sources()[0]["dropped"] == {"contaminated": 1}
    assert report.sources()[0]["first_dropped"]["contaminated"].endswith(f"row 3: {' '.join(copied)!r}")


def test_special_tokens_are_broken_up_in_what_is_imported_only(files, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"problem": "What is <|im_end|>?", "answer": "<|im_end|>"}\n')
    run(files, tmp_path / "mix", [str(tmp_path / "a.jsonl")], total=None)
    (sample,) = samples(tmp_path / "mix")
    assert (sample.question, sample.ground_truth) == ("What is < |im_end|>?", "< |im_end|>")
    assert "</think>" in sample.prompt[0]["content"]


def test_a_file_that_changes_while_it_is_read_is_found_out(files, tmp_path, monkeypatch):
    source = tmp_path / "dapo.jsonl"
    lines = (files / "dapo.jsonl").read_text().splitlines(keepends=True)
    choose = write_mix_module._choose
    for after, message in ((lines[1::-1] + lines[2:], "line 1: changed while"), (lines[:40], "lost rows while")):
        source.write_text("".join(lines))
        monkeypatch.setattr(
            write_mix_module, "_choose", lambda *a, after=after: (source.write_text("".join(after)), choose(*a))[1]
        )
        with pytest.raises(CorpusError, match=message):
            run(files, tmp_path / "mix", [str(source)], total=None)
    assert not list((tmp_path / "mix").iterdir())


@pytest.mark.parametrize(
    ("sources", "given", "message"),
    [
        (["nothere.json"], {}, r"nothere.json: no such file"),
        (["mathqa.json", "./mathqa.json"], {}, r"mathqa.json: given twice, so all its rows would be duplicates"),
        (["mathqa.json:layout=dapo"], {}, r"no usable row among 63 \(no_problem 63\); .*row 0: prompt is None"),
        (
            ["keychain/train.parquet", "mathqa.json:weight=1"],
            {"total": 100},
            r"total = 100: the sources without a weight already have 300 rows",
        ),
        (["mathqa.json"], {"max_prompt_tokens": 3}, r"no usable row among 63 \(.*too_long 60"),
        (["mathqa.json"], {"benchmarks": ["nothere"]}, r"benchmarks: nothere: no such file"),
        (["mathqa.json"], {"tokenizer": "builtin"}, r"tokenizer builtin has no chat template"),
        (["mathqa.json"], {"scorers": ["nothere"]}, r"scorers = 'nothere': cannot be imported"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(files, tmp_path, sources, given, message):
    with pytest.raises(ValueError, match=message):
        run(files, tmp_path / "mix", sources, **{"total": None, **given})
    assert not (tmp_path / "mix").exists()


def test_other_data_is_not_replaced(files, tmp_path):
    run(files, tmp_path, total=None, sources=["mathqa.json"])
    with pytest.raises(ConfigError, match=r"train.parquet: is one of the sources and would be replaced"):
        run(files, tmp_path, [str(tmp_path / TRAIN)], total=None)
    (tmp_path / "mix.json").unlink()
    with pytest.raises(ConfigError, match=r"train.parquet: exists and is not of a mix \(there is no mix.json\)"):
        run(files, tmp_path, total=None, sources=["mathqa.json"])


def test_a_template_that_refuses_a_prompt_is_named(files, tmp_path, tokenizer):
    strict = tmp_path / "strict"
    shutil.copytree(files / "tokenizer", strict)
    (strict / "chat_template.jinja").write_text("{{ raise_exception('no') if 'cups' in messages[0]['content'] }}x")
    with pytest.raises(
        CorpusError, match=r"mathqa.json: row 0 to .*row 59: the chat template refuses a prompt: no. Fix"
    ):
        run(files, tmp_path / "mix", ["mathqa.json"], total=None, tokenizer=str(strict))


def test_the_command_line(files, tmp_path):
    command = [sys.executable, "-m", "data_gen.mix", "--output", tmp_path / "mix", "--seed", 3, "--total", 200]
    command += ["--tokenizer", files / "tokenizer", "--benchmark", files / "benchmark.jsonl"]
    command += ["--max-prompt-tokens", 4000, *(files / source for source in EVERY)]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in ("contaminated", "loongrl_choice", "mean"))
    assert done.stdout.splitlines()[-1] == f"train    {tmp_path / 'mix' / TRAIN}"
    write_mix(MixConfig.load(tmp_path / "mix" / "config.yaml", []), tmp_path / "again")
    assert (tmp_path / "again" / TRAIN).read_bytes() == (tmp_path / "mix" / TRAIN).read_bytes()


def test_the_command_line_says_what_is_wrong(tmp_path):
    result = CliRunner().invoke(app, ["--output", str(tmp_path), "none.json:count=3"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: none.json: no such file. Fix: correct the path")
    result = CliRunner().invoke(app, ["--output", str(tmp_path), "none.json:count"])
    assert result.stderr.startswith("error: none.json:count: no such file")
