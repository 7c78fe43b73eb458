"""A server of chat completions that answers every request after 50 ms, in a process of its own, for other benchmarks.

The reply is a fixed text, or SAME to a judge's prompt with a verdict line; the model's name is m. It is a bare protocol
without a framework, to leave the cores to the client.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DELAY_S = 0.05
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")
_VERDICT = re.compile(rb"VERDICT-(\w+): SAME")


@contextmanager
def stub_server(text: str) -> Iterator[str]:
    """The URL of a server that replies with `text`; it ends with the block."""
    server = subprocess.Popen([sys.executable, __file__, text], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    finally:
        server.kill()
        server.wait()


async def serve(text: str) -> None:
    """Serve, after printing the port."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(text), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class _Connection(asyncio.Protocol):
    def __init__(self, text: str) -> None:
        self._text, self._received = text, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received, 0, max(0, end))
        if end < 0 or len(self._received) < end + 4 + (int(length[1]) if length else 0):
            return
        if self._received.startswith(b"GET"):
            content = json.dumps({"data": [{"id": "m"}]}).encode()
        else:
            mark = _VERDICT.search(self._received, end)
            content = _completion(f"VERDICT-{mark[1].decode()}: SAME" if mark else self._text)
        self._received.clear()
        status = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        reply = status % len(content) + content
        asyncio.get_running_loop().call_later(DELAY_S, self._transport.write, reply)  # type: ignore[attr-defined]


def _completion(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 900, "completion_tokens": 2, "total_tokens": 902}
    reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return json.dumps(reply).encode()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
