"""A judged run whose judge dies: the failed step is not trained on, the state is saved, the message says why."""

import http.server
import json
import re
import threading

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class Judge(http.server.BaseHTTPRequestHandler):
    """OpenAI chat protocol; says DIFFERENT until `dead` is set, then 500."""

    dead = threading.Event()

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
        if self.dead.is_set():
            self._send(500, {"error": {"message": "out of service"}})
            return
        verdict = re.findall(r"VERDICT-\w+: DIFFERENT", json.dumps(asked["messages"]))[-1]
        message = {"role": "assistant", "content": verdict}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._send(200, {"id": "x", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]})

    def log_message(self, *_: object) -> None: ...


def test_dead_judge_stops_the_run_after_saving(run):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        process = run.start(
            "trainer.total_training_steps=50",
            "trainer.save_freq=50",
            "trainer.val_before_train=false",
            "trainer.test_freq=0",
            "longrl.reward.answer.by=judge",
            "longrl.reward.max_failure_share=0.05",
            "longrl.judge.attempts=1",
            f"longrl.judge.endpoints=[http://127.0.0.1:{server.server_port}/v1]",
        )
        run.wait_for(run.output / "rollouts" / "2.jsonl", process)
        Judge.dead.set()
        assert run.finish(process) != 0
    finally:
        server.shutdown()
    failed_step = len(run.rows("train")) + 1
    assert f"step {failed_step}: " in run.console
    assert "judge_error" in run.console
    assert run.checkpoint(failed_step - 1)["world_size"] == 2
    assert "repeat the command to continue" in run.console
