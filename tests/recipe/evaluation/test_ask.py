"""A trained model is asked as in training, and what it says is read in both forms."""

import json

import pytest
from support import tiny_bpe
from support.fake_openai_server import Server
from verl_longrl.data.prompt import parse_chunks

from recipe.longrl.evaluation.ask import ask_document, open_reader, read_response, split_document
from recipe.longrl.evaluation.errors import EvaluationError

DOCUMENT = "\n\n".join(f"Section {i}. The mill of village {i} belongs to owner {i}." for i in range(12))
CHUNKS = ["a", "b", "c"]


def cite_the_chunk_with_the_answer(body):
    """A model that finds owner 7 in the chunks of its prompt."""
    chunks = parse_chunks(body["messages"][0]["content"])
    number = next(i for i, chunk in enumerate(chunks) if "owner 7" in chunk)
    return f"It is there.</think><useful_chunks><CHUNK_{number}></useful_chunks><answer>owner 7</answer>"


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_bpe.build([DOCUMENT], vocabulary=600).save_pretrained(folder)
    return folder


@pytest.fixture
def server(monkeypatch, tokenizer_folder):
    running = Server(honest=cite_the_chunk_with_the_answer)
    from recipe.longrl.evaluation import models

    load = models.load_tokenizer
    monkeypatch.setattr(models, "load_tokenizer", lambda name: load(str(tokenizer_folder)))
    yield running
    running.close()


def test_the_document_is_shown_as_in_training(server):
    with open_reader("", [server.url], window=8192) as model:
        reading = ask_document(model, DOCUMENT, "Who owns the mill of village 7?", chunk_tokens=64, max_tokens=100)
        assert list(reading.chunks) == split_document(model.tokenizer, DOCUMENT, 64)
    assert len(reading.chunks) > 3
    assert (reading.answer, reading.error, reading.reasoning) == ("owner 7", "", "It is there.")
    (number,) = reading.cited
    assert "owner 7" in reading.chunks[number]


def test_the_command_prints_the_answer_and_the_chunk(server, tmp_path, capsys):
    from recipe.longrl.evaluation.__main__ import app

    file = tmp_path / "mills.md"
    file.write_text(DOCUMENT)
    flags = ["--server", server.url, "--window", "8192", "--chunk-tokens", "64", "--max-tokens", "100"]
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            app(["ask", str(file), "Who owns the mill of village 7?", *flags, *more])
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        assert "owner 7" in printed
    assert json.loads(printed)["answer"] == "owner 7"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["missing.txt", "q"], "document = missing.txt: no such file. Fix: name one file"),
        (["{empty}", "q"], "has no text. Fix: "),
        (["{folder}", "q"], "no such file. Fix: name one file"),
        (["{corpus}", "q"], "several documents in it. Fix: name a file with one document"),
        (["{file}", " "], "question: has no text. Fix: "),
        (["{file}", "q", "--max-tokens", "8000"], "exceed the model's window of 8,192"),
    ],
)
def test_what_cannot_be_asked_is_said(server, tmp_path, capsys, arguments, problem):
    from recipe.longrl.evaluation.__main__ import app

    file = tmp_path / "mills.txt"
    file.write_text(DOCUMENT)
    (corpus := tmp_path / "mills.jsonl").write_text('{"text": "a mill"}\n' * 3)
    (empty := tmp_path / "empty.md").write_text(" \n")
    words = [word.format(file=file, empty=empty, folder=tmp_path, corpus=corpus) for word in arguments]
    with pytest.raises(SystemExit) as ended:
        app(["ask", *words, "--server", server.url, "--window", "8192"])
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


def test_an_empty_document(server):
    with open_reader("", [server.url], window=8192) as model, pytest.raises(EvaluationError, match="has no text"):
        ask_document(model, " \n", "q")


@pytest.mark.parametrize(
    "response",
    [
        "so</think><useful_chunks><CHUNK_2><CHUNK_0><CHUNK_2></useful_chunks><answer>x</answer>",
        "so</think><useful chunks><CHUNK 2><CHUNK 0></useful chunks><answer>x</answer>",
        "so</think><useful chunks><Chunk_2>, <CHUNK 0></useful_chunks>\n<answer> x </answer>",
        "<think>so</think>\n<useful chunks>\n<CHUNK 2>\n<CHUNK 0>\n</useful chunks>\n<answer>x</answer>",
    ],
)
def test_both_forms_of_citing_are_read(response):
    reading = read_response(response, CHUNKS)
    assert (reading.cited, reading.answer, reading.reasoning, reading.error) == ((2, 0), "x", "so", "")


@pytest.mark.parametrize(
    "response",
    [
        "so <useful_chunks><CHUNK_2><CHUNK_0></useful_chunks><answer>x</answer></think>",
        "so</think><useful chunks><CHUNK 2><CHUNK 0></useful chunks><answer>x</answer><answer>x</answer>",
    ],
)
def test_answers_of_released_models_are_read_where_they_are(response):
    reading = read_response(response, CHUNKS)
    assert (reading.cited, reading.answer, reading.error) == ((2, 0), "x", "")


def test_what_is_not_there_is_said():
    reading = read_response("<useful_chunks><CHUNK_9><CHUNK_1></useful_chunks><answer>x</answer>", CHUNKS)
    assert (reading.cited, reading.outside) == ((1,), (9,))
    assert read_response("It is x.", CHUNKS).error == "no <useful_chunks> block"
