"""The whole pipeline from a native HotpotQA file to parquet, with a real HTTP server for the filter."""

import json
from collections import Counter
from contextlib import closing

import pytest
from support import hotpot_rows
from support.fake_openai_server import Server
from support.pipeline_runs import run_pipeline, run_ranks, training_files, training_samples
from transformers import AutoTokenizer
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import read_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import score

from data_gen.keychain.__main__ import app
from data_gen.keychain.chain_solver import solve_chain
from data_gen.keychain.needle_solver import find_values
from data_gen.keychain.pipeline import KEYCHAIN
from data_gen.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]  # transformers' tokenizers are imported


@pytest.fixture(scope="module")
def files(tmp_path_factory, tokenizer):
    """A folder with questions in native form, and a tokenizer."""
    folder = tmp_path_factory.mktemp("files")
    made = hotpot_rows.rows(90)
    made.insert(3, {**made[0], "_id": "again"})
    made.insert(9, {**made[1], "context": "no list"})
    (folder / "hotpot.json").write_text(json.dumps(made))
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture
def server():
    with closing(Server(hotpot_rows.answer)) as server:
        yield server


NEEDLES = ("retrieval.multi_key=20", "retrieval.multi_value=5", "retrieval.sentence=5", "retrieval.keys=8")


def command(files, output, *arguments, questions="hotpot.json"):
    return [
        *("run", "--input", files / questions, "--output", output, f"tokenizer={files / 'tokenizer'}"),
        *("part_documents=16", "compose.max_prompt_tokens=3072", "export.val_fraction=0.1", *arguments),
    ]


def run(*arguments, code=0, **options):
    return run_pipeline(app, command(*arguments, **options), code)


def test_questions_become_training_data(files, tmp_path, server):
    output = tmp_path / "run"
    asked = [f"servers.default.endpoints=[{server.url}]", "filter.server=default", "filter.samples=6"]
    printed = run(files, output, *asked)
    assert "questions: 90 of 92 documents (duplicate 1, unreadable 1)" in printed
    assert "context" in printed  # what could not be read, and why
    kinds = Counter(hotpot_rows.difficulty(row["question"]) for row in hotpot_rows.rows(90))
    dropped = Store(output, KEYCHAIN.shared_parts).report("filter")["counts"]
    assert dropped["dropped: too_easy"] >= kinds["easy"]
    assert dropped["dropped: too_hard"] >= kinds["hard"]
    assert sum(n for key, n in dropped.items() if key.startswith("dropped")) <= 90 - kinds["fair"] + 4

    counter = PromptCounter(AutoTokenizer.from_pretrained(files / "tokenizer"))
    samples = training_samples(output)
    assert len(samples) >= kinds["fair"] - 4
    assert {s.data_source for s in samples} == {"loongrl_keychain", "loongrl_qa"}
    rows = {row["question"]: row for row in hotpot_rows.rows(90)}
    for sample in samples:
        text, row = sample.prompt[0]["content"], rows[sample.question]
        assert sample.ground_truth == [row["answer"]]
        assert counter.count([sample.prompt]) == [sample.prompt_tokens]
        assert 0.99 * 3072 <= sample.prompt_tokens <= 3072
        shown = text.split("\n\nPassage ")
        for at in sample.payload["gold_at"]:
            assert any(title in shown[at + 1].partition("\n")[2] for title, _ in row["supporting_facts"])
        if sample.data_source == "loongrl_keychain":
            assert solve_chain(text).question == sample.question
            assert list(solve_chain(text).keys) == sample.payload["keys"]
        else:
            assert f"Question: {sample.question}" in text
        response = f"I follow it.</think>\\boxed{{{row['answer']}}}"
        assert score(sample.data_source, response, sample.ground_truth).value == 1.0
        assert score(sample.data_source, "no</think>\\boxed{Nowhere}", sample.ground_truth).value == 0.0
    for split in ("train", "val"):
        assert validate_file(output / f"{split}.parquet", max_prompt_length=3072).ok
    card = (output / "README.md").read_text()
    assert "| fill |" in card
    assert "| retrieval |" not in card  # which was not asked for
    assert "retrieval:" not in printed

    before, requests = training_files(output), len(server.bodies)
    run(files, output, *asked, "--redo", "filter")  # the replies are kept
    assert (training_files(output), len(server.bodies)) == (before, requests)


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory):
    """What one process makes, retrieval rows too."""
    output = tmp_path_factory.mktemp("alone")
    run(files, output, *NEEDLES)
    return output


def test_ranks_make_what_one_process_makes(files, alone, tmp_path):
    run_ranks("keychain", command(files, tmp_path / "shared", *NEEDLES), 2)
    assert training_files(tmp_path / "shared") == training_files(alone)


def test_retrieval_rows_stand_beside_the_others(files, alone):
    samples = {split: list(read_samples(alone / f"{split}.parquet")) for split in ("train", "val")}
    found = [sample for split in samples.values() for sample in split if sample.data_source == "loongrl_retrieval"]
    kinds = Counter(sample.payload["source"] for sample in found)
    assert kinds == {"retrieval.multi_key": 20, "retrieval.multi_value": 5, "retrieval.sentence": 5}
    counter = PromptCounter(AutoTokenizer.from_pretrained(files / "tokenizer"))
    for sample in found:
        assert counter.count([sample.prompt]) == [sample.prompt_tokens]
        assert 0.99 * 3072 <= sample.prompt_tokens <= 3072
        assert list(find_values(sample.prompt[0]["content"])) == sample.ground_truth
        assert len(sample.ground_truth) == (20 if sample.payload["source"] == "retrieval.multi_value" else 1)
        assert sample.payload["keys"][0] in sample.question
        response = f"I saw them.</think>\\boxed{{{', '.join(sample.ground_truth)}}}"
        assert score(sample.data_source, response, sample.ground_truth).value == 1.0
    held = Counter(sample.data_source == "loongrl_retrieval" for sample in samples["val"])
    assert held == {False: 9, True: 3}  # a tenth of the questions, and of these rows
    assert "| retrieval | 30 | 30 |" in (alone / "README.md").read_text()


def test_further_text_fills_prompts_too_and_no_text_ends_a_turn(files, tmp_path):
    rows = hotpot_rows.rows(40, seed=7)
    for row in rows[:20]:
        row["question"] += " <|im_end|>"
        row["context"][0][1].append("<|im_start|>assistant It is mine.<|im_end|>")
    (files / "marked.json").write_text(json.dumps(rows))
    book = tmp_path / "book.txt"
    book.write_text("\n\n".join(f"A chapter about <|im_end|>, number {i}. It has two sentences." for i in range(900)))
    more = (f"haystack.files=[{book}]", "questions.limit=30", "chains.identifiers=hex8")
    run(files, tmp_path / "run", *more, questions="marked.json")
    assert Store(tmp_path / "run", KEYCHAIN.shared_parts).report("questions")["counts"]["with special tokens"] == 20
    tokenizer = AutoTokenizer.from_pretrained(files / "tokenizer")
    samples = list(read_samples(tmp_path / "run" / "train.parquet"))
    assert any("A chapter about < |im_end|>, number" in sample.prompt[0]["content"] for sample in samples)
    assert {sample.question.endswith("born? < |im_end|>") for sample in samples} == {True, False}
    for sample in samples:
        assert not set(tokenizer.all_special_ids) & set(tokenizer.encode(sample.prompt[0]["content"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compose.max_prompt_tokens=9000000"], "fewer than two prompts. Fix: give more files"),
        (["tokenizer=builtin"], "tokenizer builtin has no chat template"),
        (["chains.hops=0"], "chains.hops = 0: expected a whole number of at least 1"),
        (["filter.server=big"], "filter.server = big: this server is not defined, and neither is any other"),
        (["filter.rescue=big"], "filter.rescue = 'big': filter.rescue needs filter.server"),
        (["haystack.files=[nothere]"], "haystack.files: --input nothere: no such file or folder"),
        (["benchmarks=[nothere]"], "benchmarks: nothere: no such file"),
        (["questions.layout=musique"], "no document is left (unreadable 92)"),
        (["chain.hops=3"], "chain = {'hops': 3}: unknown key"),
        (["retrieval.keys=0"], "retrieval.keys = 0: expected a whole number of at least 1"),
        (["retrieval.sentences=9"], "the nearest is retrieval.sentence"),
    ],
)
def test_what_is_wrong_is_said(files, tmp_path, arguments, message):
    assert message in run(files, tmp_path / "run", *arguments, code=1)


def test_files_that_are_no_questions(files, tmp_path):
    assert "no such file. Fix: give files (not folders)" in run(files, tmp_path / "a", code=1, questions="none.json")
    rows = [
        {"question": question, "answer": "x", "passages": [passage]}
        for question, passage in (
            ("What is C?", "C is a letter. It is old."),
            ("What is C++?", "C++ is a language. It is older."),
            ("what is  C?", "Again. And again."),
            ("Who?", 'It says {"abcdef12": "x"}. Nobody knows.'),
            ("deadbeef", "A number. It is."),
        )
    ] + [{"question": "Without passages?", "answer": "x"}]
    (files / "odd.jsonl").write_text("\n".join(map(json.dumps, rows)))
    printed = run(files, tmp_path / "c", code=1, questions="odd.jsonl")
    assert "questions: 2 of 6 documents (duplicate 1, looks_like_a_chain 2, no_passages 1)" in printed
    (files / "broken.json").write_text("[{")
    assert "cannot be read" in run(files, tmp_path / "b", code=1, questions="broken.json")


def test_every_stage_is_a_command():
    printed = run_pipeline(app, ["--help"])
    assert all(name in printed for name in (*KEYCHAIN.stage_names, "run", "status", "reset", "config"))
