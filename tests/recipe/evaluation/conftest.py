"""A tokenizer with a chat template, a profile of the tiny benchmark, and a server that knows its answers."""

import asyncio

import pytest
from support import fake_judge, tiny_benchmark, tiny_bpe
from support.fake_openai_server import Server

PROFILE = """
source: tests
sets:
  capitals:
    benchmark: support.tiny_benchmark:BENCHMARK
    options: {samples: 3}
"""


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [row.messages[0]["content"] for row in tiny_benchmark.rows(samples=6)]
    tiny_bpe.build(texts, vocabulary=600).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    from recipe.longrl.evaluation.models import load_tokenizer

    return load_tokenizer(str(tokenizer_folder))


@pytest.fixture
def judge():
    running = Server(honest=fake_judge.lenient)
    yield running
    running.close()


@pytest.fixture
def profile(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(PROFILE)
    return file


@pytest.fixture
def server():
    running = Server(honest=tiny_benchmark.know)
    yield running
    running.close()


@pytest.fixture
def measure(profile, server, tokenizer_folder):
    """Plans, asks and scores without the command line: measure(out, *overrides, window=2048) -> tables."""
    from recipe.longrl.evaluation.models import describe_model
    from recipe.longrl.evaluation.run import plan_sets, run_sets
    from recipe.longrl.evaluation.score import score_set
    from recipe.longrl.evaluation.settings import read_settings

    def run(out, *overrides, window=2048):
        flags = {"server": [server.url], "tokenizer": str(tokenizer_folder), "window": window}
        settings = read_settings(str(profile), [], overrides, flags)
        model = describe_model(settings.model, out)
        plans = plan_sets(out, settings.profile, settings.sets, model)
        asyncio.run(run_sets(plans, model, settings.client))
        return score_set(out / "capitals")

    return run


@pytest.fixture
def evaluate(profile, server, tokenizer_folder, capsys):
    """Runs the command line on the server: evaluate("run", out, *arguments) -> (status, stdout, stderr)."""
    from recipe.longrl.evaluation.__main__ import app

    def run(command, out, *arguments):
        flags = ["--out", str(out), "--profile", str(profile), "--server", server.url]
        flags += ["--tokenizer", str(tokenizer_folder)]
        if "--window" not in arguments:
            flags += ["--window", "2048"]
        with pytest.raises(SystemExit) as ended:
            app([command, *flags, *arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run
