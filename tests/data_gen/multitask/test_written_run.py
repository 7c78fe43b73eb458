"""The whole pipeline with models that write and verify, from files to parquet: whatever the servers do and whenever it
is stopped, everything is accounted for, and nothing is paid for twice."""

import json
import signal
import time
from collections import Counter

import pytest
import yaml
from support import fake_writer_llm, planted_fact_docs
from support.fake_openai_server import Server
from support.pipeline_runs import run_pipeline, start_pipeline, training_files, training_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import score

from data_gen.multitask.__main__ import app
from data_gen.multitask.computed_tasks import ABILITIES, data_source
from data_gen.multitask.pipeline import MULTITASK
from data_gen.multitask.reward_proof import accepted_answers, score_answer
from data_gen.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]  # transformers' tokenizers are imported

BUDGET, DOCUMENTS, CONCURRENCY = 8000, 10, 3
WRITTEN = ("qa", "choice", "summary")
TEXTS = [planted_fact_docs.document(seed, topics=5, paragraphs=8)[0] for seed in range(DOCUMENTS)]


@pytest.fixture(scope="module")
def files(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("files")
    (folder / "documents").mkdir()
    for number, text in enumerate(TEXTS):
        (folder / "documents" / f"{number}.txt").write_text(text)
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture
def config_file(files, tmp_path):
    """config_file(url, **blocks) -> a YAML file for these documents."""

    def make(url, timeout_s=5.0, **blocks):
        server = {"endpoints": [url], "model": "judge", "timeout_s": timeout_s, "backoff_s": 0.01, "cooldown_s": 0.0}
        server |= {"max_backoff_s": 0.2, "concurrency": CONCURRENCY}
        values = {
            "tokenizer": str(files / "tokenizer"),
            "part_documents": 3,
            "servers": {"writer": server, "checker": server},
            "ingest": {"buckets": [500, 60000]},
            "assign": {"per_document": 6},
            "compose": {"max_prompt_tokens": BUDGET, "passage_words": 40},
            "write": {"server": "writer"},
            "verify": {"server": "checker", "samples": 2, "closed_book": 2},
            "export": {"val_fraction": 0.2},
            **blocks,
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "config.yaml"

    return make


def command(files, output, config, *more):
    return ["run", "--input", files / "documents", "--output", output, "--config", config, *more]


def run(*arguments):
    return run_pipeline(app, command(*arguments))


def adds_up(output):
    """Every task that was assigned is accounted for, up to the rows; the counts of all stages."""
    store = Store(output, MULTITASK.shared_parts)
    counts = {name: Counter(store.report(name)["counts"]) for name in MULTITASK.stage_names if name != "difficulty"}
    rows = Counter(sample.task.removeprefix("golongrl_") for sample in training_samples(output))
    for task in ABILITIES:
        by_stage = {
            stage: sum(n for key, n in counts[stage].items() if key == task or key.startswith(f"{task}: "))
            for stage in ("write", "verify")
        }
        if task in WRITTEN:
            assert by_stage["write"] == counts["assign"][task]
            assert by_stage["verify"] == counts["write"][task]
            assert rows[task] == counts["verify"][task]
        else:
            assert rows[task] == counts["compose"][task]
    assert counts["assign"]["documents"] == counts["compose"]["documents"] == counts["verify"]["documents"]
    return counts


def test_written_and_computed_tasks_become_training_data(files, tmp_path, config_file, server):
    output = tmp_path / "run"
    printed = run(files, output, config_file(server.url))
    asked = len(server.bodies)
    before = training_files(output)
    run(files, output, config_file(server.url), "--redo", "pool")  # the replies are in the cache
    assert training_files(output) == before
    assert len(server.bodies) - asked <= 2  # but for the question whether the servers decode JSON
    assert f"write: {DOCUMENTS} of {DOCUMENTS} documents" in printed
    assert f"verify: {DOCUMENTS} of {DOCUMENTS} documents" in printed
    counts = adds_up(output)
    assert {counts["assign"][task] for task in ABILITIES} == {DOCUMENTS * 6 // len(ABILITIES)}
    samples = training_samples(output)
    assert {sample.task for sample in samples} == set(map(data_source, ABILITIES))
    for sample in samples:
        task, payload = sample.task.removeprefix("golongrl_"), sample.payload
        assert sample.ability == ABILITIES[task]
        assert payload["sample"].startswith(f"{payload['document']}/{'verify' if task in WRITTEN else 'compose'}-")
        for answer in accepted_answers(task, sample.ground_truth):
            assert score_answer(task, answer, sample.ground_truth).value == 1.0
        if task in ("qa", "choice"):
            (message,) = sample.prompt
            given = score(sample.data_source, fake_writer_llm.answer_question(message["content"]), sample.ground_truth)
            assert given.value == 1.0
            assert fake_writer_llm.KNOWN not in str(sample.ground_truth)  # what is known without the text is out
            assert payload["checked"] == {"closed_book": 0.0, "with_text": 1.0}
            assert all(quote in message["content"] for quote in payload["evidence"])
    assert len({sample.payload["sample"] for sample in samples}) == len(samples)
    for split in ("train", "val"):
        assert validate_file(output / f"{split}.parquet", max_prompt_length=BUDGET).ok


def test_documents_without_computed_tasks_are_not_lost(files, tmp_path, config_file, server):
    output, compose = tmp_path / "run", {"max_prompt_tokens": BUDGET, "passage_words": 40, "tasks": []}
    run(files, output, config_file(server.url, compose=compose))
    tasks = {sample.task for sample in training_samples(output)}
    assert tasks == set(map(data_source, WRITTEN))


class CountingWriter(fake_writer_llm.MisbehavingWriter):
    """Counts its replies, except those to the probe for structured output."""

    def __init__(self):
        super().__init__(share=0.1, hang_s=1.5)
        self.paid = Counter()

    def content(self, body):
        self.paid[json.dumps(body, sort_keys=True)] += body["max_tokens"] != 16
        return super().content(body)


def test_killed_while_servers_misbehave_the_result_is_the_same_and_nothing_is_paid_for_twice(
    files, tmp_path, config_file
):
    behave = CountingWriter()
    server = Server(fake_writer_llm.honest_reply, behave)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    file = config_file(server.url, timeout_s=0.7)
    try:
        run(files, undisturbed, file)
        once, behave.paid = behave.paid, Counter()
        for ranks in (2, 1):
            behave.seen.clear()  # every life meets all the trouble
            asked = len(server.bodies)
            arguments = command(files, killed, file, "--world-size", ranks, "--rank")
            world = [start_pipeline("multitask", [*arguments, rank]) for rank in range(ranks)]
            while len(server.bodies) < asked + 25 and all(process.poll() is None for process in world):
                time.sleep(0.01)
            for process in world:
                process.kill()
            assert [process.wait() for process in world] == [-signal.SIGKILL] * ranks
        run(files, killed, file)
    finally:
        server.close()
    assert all(behave.occurred.values()), behave.occurred  # every kind of trouble occurred
    assert training_files(killed) == training_files(undisturbed)
    assert not list(killed.rglob("*.tmp"))
    assert adds_up(killed) == adds_up(undisturbed)
    assert set(behave.paid) == set(once)
    assert set(once.values()) == {0, 1}
    assert behave.paid.total() - once.total() <= 3 * CONCURRENCY  # what was on its way to the three killed
