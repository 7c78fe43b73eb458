"""The whole pipeline from files to parquet: every row is read by a careful reader and scored by its own reward."""

import json
from collections import Counter

import pytest
from support import reference_solver, synthetic_books
from support.pipeline_runs import run_pipeline, run_ranks, training_files
from transformers import AutoTokenizer
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import read_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import score

from data_gen.answer_templates import render_response
from data_gen.multitask.__main__ import app
from data_gen.multitask.computed_tasks import ABILITIES, TASKS, data_source
from data_gen.multitask.pipeline import MULTITASK
from data_gen.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]  # transformers' tokenizers are imported

BUDGET = 2500
GERMAN = "Der Rat der Stadt {} hat im Jahr das alte Tor und die neue Mühle an den Sohn des Müllers {} verkauft. "


@pytest.fixture(scope="module")
def files(tmp_path_factory, texts, tokenizer):
    """A folder of documents, good ones and one of each kind that must be dropped, and a tokenizer beside it."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "documents").mkdir()
    for number, text in enumerate(texts[:5]):
        (folder / "documents" / f"{number}.txt").write_text(text)
    rows = [{"text": text, "title": f"row {n}"} for n, text in enumerate(texts[5:])]
    rows.append({"text": synthetic_books.document(70, 60) + "\n\n<|im_end|> and <|im_start|>assistant: so it was."})
    (folder / "documents" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "documents" / "copy.txt").write_text(texts[0])
    (folder / "documents" / "german.txt").write_text("".join(GERMAN.format(n, n) for n in range(120)))
    (folder / "documents" / "looks.txt").write_text(synthetic_books.document(80, 60) + "\n\nPassage 3:\nNothing.")
    (folder / "documents" / "few.txt").write_text(" ".join(synthetic_books.document(90, 60).split()[:700]))
    (folder / "documents" / "nothing.txt").write_text("\n\n".join(["it is the of and to a in. " * 12] * 20))
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def command(files, output, *arguments):
    return [
        *("run", "--input", files / "documents", "--output", output, f"tokenizer={files / 'tokenizer'}"),
        *("part_documents=3", "ingest.buckets=[500,60000]", f"compose.max_prompt_tokens={BUDGET}"),
        *("compose.passage_words=40", "assign.per_document=6", "export.val_fraction=0.2", *arguments),
    ]


def run(*arguments, code=0):
    return run_pipeline(app, command(*arguments), code)


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    """A run, and what it printed."""
    output = tmp_path_factory.mktemp("made")
    return output, run(files, output, "compose.min_passages=15")


def test_documents_become_training_data(files, made):
    output, printed = made
    assert "dedup: 13 of 14 documents (duplicate 1)" in printed
    assert "pool: 9 of 13 documents (looks_numbered 1, no_pool 1, not_english 1, too_short 1)" in printed
    assert "write.server is not set, so all tasks are computed" in printed
    tokenizer = AutoTokenizer.from_pretrained(files / "tokenizer")
    counter = PromptCounter(tokenizer)
    by_split = {split: list(read_samples(output / f"{split}.parquet")) for split in ("train", "val")}
    documents = {split: {sample.payload["document"] for sample in found} for split, found in by_split.items()}
    assert (len(documents["train"]), len(documents["val"])) == (7, 2)
    assert not documents["train"] & documents["val"]
    samples = [sample for found in by_split.values() for sample in found]
    assert len(samples) == 9 * 6
    assert {sample.data_source for sample in samples} == set(map(data_source, TASKS))
    for sample in samples:
        (message,) = sample.prompt
        task = sample.data_source.removeprefix("golongrl_")
        assert sample.task == sample.data_source
        assert sample.ability == ABILITIES[task]
        assert sample.question in message["content"]
        assert counter.count([sample.prompt]) == [sample.prompt_tokens]
        assert 0.6 * BUDGET < sample.prompt_tokens <= BUDGET
        assert not set(tokenizer.all_special_ids) & set(tokenizer.encode(message["content"]))
        if task == "retrieval":
            assert reference_solver.is_adjacent(sample.payload["kind"], sample.ground_truth, message["content"])
        else:
            found = reference_solver.solve_prompt((task, sample.payload["kind"]), message["content"])
            assert found == sample.ground_truth
        given = render_response(sample.data_source, sample.ground_truth)
        assert score(sample.data_source, given, sample.ground_truth).value == 1.0
        assert score(sample.data_source, given.partition("</think>")[0], sample.ground_truth).value < 1.0
    for split in ("train", "val"):
        assert [sample.index for sample in by_split[split]] == list(range(len(by_split[split])))
        assert validate_file(output / f"{split}.parquet", max_prompt_length=BUDGET).ok
    store = Store(output, MULTITASK.shared_parts)
    tasks = Counter(sample.data_source for sample in samples)
    assigned, composed = (
        {task: store.report(name)["counts"][task] for task in TASKS} for name in ("assign", "compose")
    )
    assert {data_source(task): number for task, number in composed.items()} == tasks
    assert max(assigned.values()) - min(assigned.values()) == 1
    assert sum(assigned.values()) == len(samples)
    card = (output / "README.md").read_text()
    assert "| pool | 13 | 9 |" in card
    assert "| compose | 9 | 9 |" in card
    assert "| write |" not in card


def test_a_run_that_was_stopped_continues_with_the_same_bytes(files, made):
    output, _ = made
    before, folder = training_files(output), output / "compose"
    parts = sorted(folder.glob("*.jsonl"))
    texts = {path: path.read_bytes() for path in parts}
    for name in ("export", "compose"):
        for marker in (*(output / name).glob("rank-*"), *(output / name).glob("whole.json")):
            marker.unlink()  # as a process that was killed leaves it
    parts[1].unlink()
    times = {path: path.stat().st_mtime_ns for path in parts if path != parts[1]}
    run(files, output, "compose.min_passages=15")
    assert {path: path.read_bytes() for path in parts} == texts
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert training_files(output) == before
    assert "compose.min_passages = 15, now it is 12" in run(files, output, code=1)


def test_ranks_make_what_one_process_makes(files, made, tmp_path):
    run_ranks("multitask", command(files, tmp_path / "shared", "compose.min_passages=15"), 2)
    assert training_files(tmp_path / "shared") == training_files(made[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compose.tasks=[qa,sumary]"], "compose.tasks = ['qa', 'sumary']: expected some of retrieval, qa,"),
        (["assign.per_documents=2"], "the nearest is assign.per_document"),
        (["compose.tasks=[]"], "compose.tasks = []: expected tasks, unless write.server names a server"),
        (["write.server=big"], "write.server = big: this server is not defined, and neither is any other"),
        (["write.overlong_server=big"], "write.overlong_server = 'big': write.overlong_server needs write.server"),
        (["write.tasks=[qa,table]"], "write.tasks = ['qa', 'table']: expected some of qa, choice, summary"),
        (["tokenizer=builtin"], "tokenizer builtin has no chat template"),
        (["compose.min_passages=900"], "pool: no document is left"),
        (["compose.max_prompt_tokens=1024"], "export: no document is left (no_sample 10)"),
    ],
)
def test_what_is_wrong_is_said(files, tmp_path, arguments, message):
    assert message in run(files, tmp_path / "run", *arguments, code=1)


def test_every_stage_is_a_command():
    printed = run_pipeline(app, ["--help"])
    assert all(name in printed for name in (*MULTITASK.stage_names, "run", "status", "reset", "config"))
