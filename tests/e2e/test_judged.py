"""A judged run whose judge goes away: it waits, goes on when the judge is back, and saves and ends when it is not.

The run is given keys, and its judge repeats its own in every error: they are on no command line, in no file of the run,
of its Ray and of its export, and not on the terminal.
"""

import http.server
import json
import re
import tempfile
import threading
from pathlib import Path
from typing import ClassVar

import pytest
from support import secret_canaries

from recipe.longrl.export import export_checkpoint

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class Judge(http.server.BaseHTTPRequestHandler):
    """OpenAI chat protocol; says DIFFERENT, and 503 while `away` is set. The first question is refused."""

    away = threading.Event()
    keys: ClassVar[list[str | None]] = []

    def _send(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": "judge", "object": "model", "created": 0, "owned_by": "t"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.keys.append(self.headers["Authorization"])
        if self.away.is_set() or len(self.keys) == 1:
            status = 503 if self.away.is_set() else 400
            self._send(status, {"error": {"message": f"out of service for {self.keys[-1]}"}})
            return
        verdict = re.findall(r"VERDICT-\w+: DIFFERENT", json.dumps(asked["messages"]))[-1]
        message = {"role": "assistant", "content": verdict}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._send(200, {"id": "x", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]})

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def ray_folder():
    """A short path: Ray has sockets below it."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


def test_a_judge_that_is_away_is_waited_for_and_then_the_run_saves_and_ends(run, ray_folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        process = run.start(
            "trainer.total_training_steps=50",
            "trainer.save_freq=50",
            "trainer.val_before_train=false",
            "trainer.test_freq=0",
            "longrl.reward.answer.by=judge",
            "longrl.reward.max_failure_share=0.3",
            "longrl.judge.attempts=1",
            "longrl.judge.patience_minutes=0.3",
            "longrl.judge.max_backoff_s=1",
            f"longrl.judge.endpoints=[http://127.0.0.1:{server.server_port}/v1]",
            f"++ray_kwargs.ray_init._temp_dir={ray_folder}",
            **secret_canaries.ENVIRONMENT,
        )
        with secret_canaries.CommandLines(process.pid) as lines:
            run.until(lambda: 2 in run.steps, "step 2", process)
            (secrets,) = run.output.glob(".secrets-*.json")
            assert secrets.stat().st_mode & 0o777 == 0o600
            Judge.away.set()
            run.until(lambda: "the judge is away (http" in run.console, "line of waiting", process)
            Judge.away.clear()
            waited = run.steps[-1]
            run.until(lambda: run.steps[-1] > waited, "step with the judge back", process)
            assert "the judge answers again" in run.console
            Judge.away.set()
            assert run.finish(process) == 75, run.console[-4000:]
    finally:
        server.shutdown()
    failed_step = len(run.rows("train")) + 1
    ended = run.console.rpartition("interrupted: ")[2]
    assert ended.startswith(f"step {failed_step}: ")
    assert re.search(r"\d judge_away\).* the judge has been away for \d+ s: http\S+ answered 503: ", ended)
    assert run.checkpoint(failed_step - 1)["world_size"] == 2
    assert "rerun the command to resume" in ended

    # the keys reached whom they are for, and nobody else
    assert {*Judge.keys} == {f"Bearer {secret_canaries.VALUES['LONGRL_JUDGE_API_KEY']}"}
    refused = "out of service for Bearer [secret LONGRL_JUDGE_API_KEY]"
    assert any(refused in file.read_text() for file in (run.output / "rollouts" / "train").glob("*.jsonl"))
    export_checkpoint(run.output / "checkpoints", run.output / "export")
    logs = [*ray_folder.rglob("runtime_env_agent.log"), *(run.output / "ray_logs").rglob("runtime_env_agent.log")]
    assert any("Creating runtime env" in log.read_text() for log in logs)
    assert [*secret_canaries.files_with(run.folder), *secret_canaries.files_with(ray_folder)] == []
    assert not list(run.output.glob(".secrets-*"))
    assert lines.seen == []
    assert lines.looked > 100
