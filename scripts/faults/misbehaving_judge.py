"""A judge's server (OpenAI's chat protocol) that misbehaves as a fault tells it to."""

import http.server
import json
import re
import threading
import time

SILENT_S = 3600.0


class MisbehavingJudge:
    """A server on a free port of this machine. behaviour: its reaction to the next requests.

    honest: answers DIFFERENT. garbage: answers without a verdict. echo: rejects the request and quotes its API key.
    away: responds with 503. silent: accepts the request and does not respond.
    """

    def __init__(self) -> None:
        self.behaviour, self.requests = "honest", 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="judge", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(judge: MisbehavingJudge) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "judge", "object": "model", "created": 0}]})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            judge.requests += 1
            match judge.behaviour:
                case "honest":
                    self._reply(re.findall(r"VERDICT-\w+: DIFFERENT", json.dumps(request["messages"]))[-1])
                case "garbage":
                    self._reply("\x00\ud800 {]} VERDICT: perhaps? " + "x" * 100_000)
                case "echo":
                    key = self.headers.get("Authorization")
                    self._send(401, {"error": {"message": f"Incorrect API key provided: {key}"}})
                case "away":
                    self._send(503, {"error": {"message": "out of service"}})
                case "silent":
                    started = time.monotonic()
                    while judge.behaviour == "silent" and time.monotonic() - started < SILENT_S:
                        time.sleep(0.1)

        def _reply(self, text: str) -> None:
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            self._send(
                200, {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}
            )

        def _send(self, status: int, body: dict[str, object]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    return Handler
