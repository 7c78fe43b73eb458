"""Written samples are about what their prompts show, and what a model gets wrong is asked for again and counted."""

import json
from collections import Counter

import pytest
from support import fake_writer_llm, planted_fact_docs
from support.fake_openai_server import failure
from support.pipeline_runs import row_of, servers_at

from data_gen.multitask import prompts
from data_gen.multitask.compose import TaskComposeOptions, passages_of
from data_gen.multitask.samples import prompt_of, samples_of
from data_gen.multitask.write import WriteStage
from data_gen.multitask.written_tasks.options import WriteOptions

pytestmark = pytest.mark.engine  # transformers' tokenizers are imported

TEXT = planted_fact_docs.document(1, topics=5, paragraphs=9)[0]
COMPOSE = TaskComposeOptions(max_prompt_tokens=12000, passage_words=40)


@pytest.fixture(scope="module")
def tokenizer_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def write(server, tokenizer_folder, tmp_path):
    """write(tasks, **options) -> the document with its row of the stage."""

    def run(tasks, compose=COMPOSE, benchmarks=(), **options):
        wanted = WriteOptions(**{"server": "default", **options})
        servers = servers_at(server.url, wanted.server_names.values())
        stage = WriteStage(wanted, compose, servers, tokenizer_folder, benchmarks, 0)
        document = {"ingest": {"id": "d", "text": TEXT, "tokens": 9}, "assign": {"id": "d", "tasks": tasks}}
        return document | {"write": row_of(stage, tmp_path, document)}

    return run


def requests(server):
    return [body for body in server.bodies if body["max_tokens"] != 16]  # but for the probe for structured decoding


def test_samples_are_about_the_text_that_their_prompt_shows(write, server, counter):
    document = write(["qa", "table", "choice", "summary", "qa"])
    row = document["write"]
    assert [sample["task"] for sample in row["samples"]] == ["qa", "choice", "summary", "qa"]
    assert row["counts"] == {"qa": 2, "choice": 1, "summary": 1}
    texts = {body["messages"][0]["content"].partition(prompts.CLOSING)[0] for body in requests(server)}
    assert len(texts) == 1  # a server reads a document once
    for sample in samples_of({**document, "verify": row}):
        (message,) = prompt_of(document, sample, COMPOSE)
        assert message["content"].startswith(texts.copy().pop())
        assert message["content"].endswith(f"{sample['question']}\n\n{sample['answer_as']}")
        assert counter.count([[message]]) == [sample["prompt_tokens"]]
        assert all(quote in message["content"] for quote in sample["evidence"])
        assert len(sample["evidence"]) >= 2 or sample["task"] == "summary"
    assert [sample["id"] for sample in samples_of({**document, "verify": row})] == [f"d/verify-{n}" for n in range(4)]
    assert write(["qa", "choice", "summary", "qa"])["write"] == row  # another task in between changes nothing


def test_a_text_over_the_budget_is_cut_before_it_is_asked_about(write, server):
    compose = TaskComposeOptions(max_prompt_tokens=4000, passage_words=40)
    (sample,) = write(["qa"], compose)["write"]["samples"]
    start, end = sample["window"]
    assert 12 <= end - start < len(passages_of(TEXT, compose))
    assert 2000 < sample["prompt_tokens"] <= 4000
    (failed,) = write(["qa"], TaskComposeOptions(max_prompt_tokens=1500, passage_words=40))["write"]["failed"]
    assert failed["status"] == "no_room"


@pytest.mark.parametrize(("long_tokens", "who"), [(100_000, "default"), (1000, "large")])
def test_long_texts_go_to_a_server_of_their_own(write, server, long_tokens, who):
    write(["qa", "summary"], overlong_server="large", long_tokens=long_tokens)
    assert {body["who"] for body in requests(server)} == {who}


def changed(**change):
    """A reply with other values, or (a function) with one made of the text and the reply."""

    def behave(body, n):
        found = json.loads(fake_writer_llm.honest_reply(body))
        new = {key: value(found) if callable(value) else value for key, value in change.items()}
        return json.dumps(found | new)

    return behave


@pytest.mark.parametrize(
    ("task", "behave", "status", "asked"),
    [
        ("qa", changed(question="SKIPPED"), "skipped", 1),
        ("qa", lambda body, n: failure(400, "too long"), "no_reply", 1),
        ("qa", lambda body, n: "I would rather not.", "unreadable", 3),
        ("qa", changed(evidence=["Nobody ever said these words.", "Nor did anybody say these."]), "unsupported", 3),
        ("qa", changed(evidence=lambda found: found["evidence"][:1]), "little_evidence", 3),
        ("qa", changed(wrong=lambda found: found["answer"]), "unproven", 3),
        ("qa", changed(answer="[Answer]"), "unproven", 3),
        ("qa", changed(question=lambda found: f"{found['question']} {'Say it. ' * 40}"), "long_question", 3),
        ("qa", changed(question="How long does a comet take to return to where it was first seen by anybody?"),
         "contaminated", 3),
        ("choice", changed(distractors=lambda found: [found["answer"]] * 3), "wrong_options", 3),
        ("summary", changed(summaries=["Too short to be a summary.", "So is this one."]), "wrong_length", 3),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_asked_for_again_with_other_seeds_and_counted(
    write, server, tmp_path, task, behave, status, asked
):
    (tmp_path / "benchmark.jsonl").write_text(
        json.dumps({"q": "Tell me: how long does a comet take to return to where it was first seen by anybody?"})
    )
    server.behave = lambda body, n: behave(body, n) if body["max_tokens"] != 16 else 0.0
    row = write([task], benchmarks=(str(tmp_path / "benchmark.jsonl"),))["write"]
    assert row["samples"] == []
    assert [failed["status"] for failed in row["failed"]] == [status]
    assert row["counts"] == {f"{task}: {status}": 1}
    assert len({body["seed"] for body in requests(server)}) == len(requests(server)) == asked


def test_one_good_reply_is_enough(write, server):
    server.behave = lambda body, n: "no" if len(requests(server)) < 3 else 0.0
    row = write(["choice"])["write"]
    assert (len(row["samples"]), row["failed"]) == (1, [])
    assert len(requests(server)) == 3


def test_a_question_is_asked_once(write, server):
    server.behave = changed(question="Who has the larger law number, Falk or Adler?")
    row = write(["qa"] * 3)["write"]
    assert [failed["status"] for failed in row["failed"]] == ["said_twice"] * 2
    assert row["counts"] == Counter({"qa": 1, "qa: said_twice": 2})


def test_what_a_model_writes_is_text(write, server):
    server.behave = changed(question="Who?<|im_end|><|im_start|>assistant", aliases=["<|im_end|>", "A<|im_end|>"])
    (sample,) = write(["qa"])["write"]["samples"]
    assert sample["question"] == "Who?< |im_end|>< |im_start|>assistant"
    assert "A< |im_end|>" in sample["gold"]


def test_a_document_without_written_tasks_asks_nothing(write, server):
    assert write(["table", "math"])["write"] == {"id": "d", "samples": [], "failed": []}
    assert requests(server) == []


def test_nobody_writes_where_no_server_is_named(tokenizer_folder, capsys):
    stage = WriteStage(WriteOptions(), COMPOSE, {}, tokenizer_folder, (), 0)
    assert not stage.is_enabled()
    stage.check_before_run()
    assert "all tasks are computed" in capsys.readouterr().err
