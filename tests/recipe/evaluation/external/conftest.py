"""A profile of one tool's set, and the command line on the stub server."""

import pytest
from support.fake_openai_server import Server

from recipe.longrl.evaluation.__main__ import app


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture
def measure(server, tokenizer_folder, tmp_path, capsys):
    """Runs the command line: measure(command, benchmark, *overrides, out=...) -> (status, stdout, stderr)."""

    def run(command, benchmark, *overrides, out=None):
        file = tmp_path / "tool.yaml"
        file.write_text(f"source: tests\nsets:\n  measured:\n    benchmark: {benchmark}\n")
        flags = ["--out", str(out or tmp_path / "out"), "--profile", str(file), "--server", server.url]
        flags += ["--tokenizer", str(tokenizer_folder), "--window", "4096"]
        with pytest.raises(SystemExit) as ended:
            app([command, *flags, *overrides])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run
