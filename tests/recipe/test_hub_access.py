"""A hub that refuses or does not answer is asked once, by the whole of a dry run, and the verdict says what to do."""

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recipe.longrl import hub_access

pytestmark = pytest.mark.engine


@pytest.fixture(params=["refuses", "hangs"])
def silent_hub(request):
    """A hub on this machine that refuses everything, or accepts connections and never answers: its address, and what
    it was asked."""
    asked: list[str] = []
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            if request.param == "hangs":
                ended.wait(60)
            self.send_error(503)

        do_GET = do_HEAD = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    ended.set()
    server.shutdown()
    server.server_close()


def dry_run(files: list[str], endpoint: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    unset = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "http_proxy", "HTTP_PROXY", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "COLUMNS": "1000"}
    command = [sys.executable, "-m", "recipe.longrl.main", "--dry-run", *files, f"longrl.output_dir={tmp_path / 'run'}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


@pytest.fixture
def rows(tmp_path: Path) -> list[str]:
    from support.demo_rows import write_demo_rows

    write_demo_rows(tmp_path / "rows.parquet", 32)
    return [f"data.train_files=[{tmp_path / 'rows.parquet'}]", f"data.val_files=[{tmp_path / 'rows.parquet'}]"]


def test_a_dry_run_of_a_published_model(rows: list[str], silent_hub, tmp_path: Path):
    endpoint, asked = silent_hub
    done = dry_run([*rows, "model=qwen2.5-7b-1m", "hardware=8gpu"], endpoint, tmp_path)
    assert len(asked) <= 2, asked
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"checked with its published figures: {endpoint} does not answer from here" in done.stdout
    assert "HF_HUB_OFFLINE=1" in done.stdout
    # the table of sizes
    assert "published figures, because its config.json cannot be fetched" in " ".join(done.stdout.split())
    assert "69632 of 1010000 positions" in done.stdout
    assert "Retrying" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_model_that_nothing_is_known_of(rows: list[str], composed, monkeypatch):
    from huggingface_hub import constants

    from recipe.longrl.preflight import data, model

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = composed("actor_rollout_ref.model.path=some/model").actor_rollout_ref.model
    shape, (line,) = model.read_model_config("model", config, dry_run=True)
    assert (shape, line.status) == (None, "FAIL")
    assert "HF_HUB_OFFLINE is set, and some/model is not in the cache" in line.detail
    assert "hf download some/model" in line.detail
    _, line = data.load_tokenizer(config, dry_run=True)
    assert line is not None
    assert line.status == "FAIL"
    assert "hf download some/model" in line.detail


@pytest.mark.parametrize("dry_run", [True, False])
def test_published_figures_are_enough_for_a_dry_run_alone(composed, monkeypatch, dry_run: bool):
    from huggingface_hub import constants

    from recipe.longrl.preflight import model

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/nowhere")
    shape, (line,) = model.read_model_config(
        "model", composed("model=qwen2.5-7b-1m").actor_rollout_ref.model, dry_run=dry_run
    )
    assert line.status == ("warn" if dry_run else "FAIL")
    assert (shape is not None) == dry_run


def test_the_look_is_short(silent_hub, monkeypatch):
    monkeypatch.setattr(hub_access, "TIMEOUT_S", 0.5)
    started = time.monotonic()
    assert not hub_access._answers.__wrapped__(silent_hub[0])
    assert time.monotonic() - started < 5
    assert not hub_access._answers.__wrapped__("http://no.such.host.invalid")


@pytest.mark.parametrize(
    ("model", "name"),
    [("org/model", True), ("gpt2", True), ("/no", False), ("a/b/c", False), ("hdfs://a", False), (".", False)],
)
def test_names_are_told_from_places(model: str, name: bool):
    assert hub_access.is_hub_name(model) == name
