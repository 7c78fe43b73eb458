"""Models on running servers, and servers that are started here and end with this process."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from aiohttp import web
from support.fake_openai_server import Server

from recipe.longrl.evaluation import models
from recipe.longrl.evaluation.models import ModelError, ModelOptions, find_model, open_model, vllm_command

STAND_IN = """
import http.server, json, os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": "model"}]}).encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""A server with a child process, as vLLM has its engine."""


@pytest.fixture
def model_folder(tmp_path, tokenizer):
    folder = tmp_path / "model"
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512, "rope_theta": 10000.0}))
    return folder


@pytest.fixture
def stand_in(monkeypatch):
    """vLLM's place is taken by a script that starts at once."""
    monkeypatch.setattr(
        models, "vllm_command", lambda model, options, port, seed: [sys.executable, "-c", STAND_IN, str(port)]
    )


def descendants(process):
    return process.children(recursive=True)


def wait_until_gone(processes):
    gone, alive = psutil.wait_procs(processes, timeout=15)
    # Where nobody reaps orphans, as in a container without an init, an ended process stays as a zombie.
    ended = [process for process in alive if process.status() == psutil.STATUS_ZOMBIE]
    gone, alive = [*gone, *ended], [process for process in alive if process not in ended]
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert len(gone) >= 3
    assert alive == []


def test_a_started_server_ends_with_the_block(model_folder, stand_in, tmp_path):
    # Other tests of this process may have left helpers running.
    before, environment = descendants(psutil.Process()), dict(os.environ)
    with open_model(ModelOptions(model=str(model_folder)), tmp_path / "out", seed=1) as model:
        assert (model.name, model.window, model.urls[0][:17]) == ("model", 512, "http://127.0.0.1:")
        started = [process for process in descendants(psutil.Process()) if process not in before]
    wait_until_gone(started)
    assert os.environ == environment, "its key stays"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_started_server_ends_when_its_parent_is_killed(number, tmp_path):
    """As the command starts it: the supervisor's standard input is a pipe of the parent."""
    parent = f"""
import subprocess, sys, time
command = [sys.executable, "-m", "recipe.longrl.evaluation.serve", sys.executable, "-c", {STAND_IN!r}, "0"]
server = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, "VLLM_API_KEY": "k"})
    deadline, started = time.monotonic() + 30, []
    while len(started) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        started = descendants(psutil.Process(process.pid))
    process.send_signal(number)
    process.wait()
    wait_until_gone(started)


def test_a_server_that_does_not_start_is_explained(model_folder, monkeypatch, tmp_path):
    script = "import sys; print('no kernel for this GPU'); sys.exit(3)"
    monkeypatch.setattr(models, "vllm_command", lambda *_: [sys.executable, "-c", script])
    with (
        pytest.raises(
            ModelError, match=r"vLLM ended with status 3. Fix: see .*server-0.log(?s:.*)no kernel for this GPU"
        ),
        open_model(ModelOptions(model=str(model_folder)), tmp_path / "out", seed=1),
    ):
        pytest.fail("it did not start")


def test_vllm_gets_the_window_and_no_key(model_folder, tmp_path):
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    options = ModelOptions(
        model=str(model_folder), window=2000, rope=rope, vllm={"enforce_eager": True, "gpu_memory_utilization": 0.8}
    )
    found = find_model(options, tmp_path / "out")
    command = vllm_command(found, options, 1234, seed=7)
    assert {"--host=127.0.0.1", "--port=1234", "--max-model-len=2000", "--seed=7", "--enforce-eager"} <= set(command)
    assert "--gpu-memory-utilization=0.8" in command
    assert ("--dtype=float32" in command) == models.on_cpu()
    assert "--dtype=bfloat16" in vllm_command(found, ModelOptions(vllm={"dtype": "bfloat16"}), 1234, seed=7)
    assert not any("key" in argument for argument in command)
    prepared = json.loads((tmp_path / "out/model/config.json").read_text())
    assert (prepared["max_position_embeddings"], prepared["rope_parameters"]["rope_type"]) == (2048, "yarn")


def test_a_runs_export_is_found(model_folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    os.rename(model_folder, run / "export")
    assert find_model(ModelOptions(model=str(run)), tmp_path / "out").path == str(run / "export")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, 'model = "": expected a model. Fix: --model FOLDER, or --server URL'),
        ({"window": 4096}, r"window = 4096: the model has 512 positions. Fix: .*rope=\{rope_type: yarn"),
        ({"model": "."}, "neither a model nor a run. Fix: "),
    ],
)
def test_models_that_cannot_be_served(model_folder, tmp_path, monkeypatch, options, problem):
    monkeypatch.chdir(tmp_path)
    if "window" in options:
        options = {"model": str(model_folder), **options}
    with pytest.raises(ModelError, match=problem):
        find_model(ModelOptions(**options), tmp_path / "out")


def open_server(running, tokenizer_folder, tmp_path, **options):
    given = {"server": (running.url,), "tokenizer": str(tokenizer_folder), "window": 100, **options}
    with open_model(ModelOptions(**given), tmp_path, seed=1) as model:
        return model


def test_a_running_server_is_described(server, tokenizer_folder, tmp_path):
    model = open_server(server, tokenizer_folder, tmp_path, revision="abc")
    assert (model.name, model.window, model.record["revision"]) == ("judge", 100, "abc")
    assert server.url not in json.dumps(model.record)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"model": "other"}, r"model = 'other': http://127.* serves \['judge'\]. Fix: --model"),
        ({"window": None}, "window = null: .* does not tell its own. Fix: --window"),
        ({"server": ("http://127.0.0.1:9/v1",)}, "Connection refused.*Fix: start it, or correct the URL"),
        ({"tokenizer": "./nowhere"}, "tokenizer = ./nowhere: .*Fix: --tokenizer"),
    ],
)
def test_servers_that_cannot_be_used(server, tokenizer_folder, tmp_path, options, problem):
    with pytest.raises(ModelError, match=problem):
        open_server(server, tokenizer_folder, tmp_path, **options)


def test_a_redirect_is_not_followed(server):
    class Redirecting(Server):
        async def _list_models(self, request):
            raise web.HTTPTemporaryRedirect(f"{server.url}/models")

    elsewhere = Redirecting()
    try:
        with pytest.raises(ModelError, match="307"):
            models._served_models(elsewhere.url, "LONGRL_API_KEY")
    finally:
        elsewhere.close()
