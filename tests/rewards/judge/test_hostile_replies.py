"""Nothing that a judge's server sends raises: every reply is a verdict, or a JudgeError that is counted."""

import asyncio
import json
import re
import socket
import threading
import zlib

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_openai_server import Server
from verl_longrl.rewards import JudgeOptions, RewardOptions, score_async
from verl_longrl.rewards.judge.client import JudgeClient

DEEP = b"[" * 100_000
ROW = {"ref_chunks": [1], "question": "What is the capital?"}
RESPONSE = "<useful_chunks><CHUNK_1></useful_chunks><answer>Rome</answer>"
JUDGED = RewardOptions.from_dict({"answer": {"by": "judge"}})


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


def score(url, model="judge"):
    """The score of a response, and how many failures the judge counted."""

    async def run():
        waits = {"timeout_s": 5.0, "backoff_s": 0.01, "max_backoff_s": 0.01, "patience_minutes": 0.0}
        judge = JudgeClient(JudgeOptions(endpoints=(url,), model=model, attempts=1, **waits))
        try:
            return await score_async("longrlvr", RESPONSE, "Paris", ROW, options=JUDGED, judge=judge), judge.metrics()
        finally:
            await judge.close()

    result, metrics = asyncio.run(run())
    return result, metrics["failures"]


def check_failure_is_counted(url, model="judge"):
    result, failures = score(url, model)
    assert (result.status, result.value, failures) == ("judge_error", 0.1, 1)
    assert result.reason.isprintable()
    return result.reason


def completion(content, finish_reason="stop"):
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice]}).encode()


PARTS = [{"type": "text", "text": "SAME"}]
BODIES = {
    "content of parts": (200, completion(PARTS), "content is of type list, expected text"),
    "content a number": (200, completion(5), "content is of type int, expected text"),
    "content NaN": (200, completion(float("nan")), "content is of type float"),
    "no content": (200, completion(None), "the judge gave no verdict"),
    "no content, cut off": (200, completion(None, "length"), "raise its max_tokens"),
    "finish_reason a list": (200, completion("x", ["stop"]), "finish_reason is of type list"),
    "a lone surrogate": (200, b'{"choices": [{"message": {"content": "\\ud800"}}]}', "the judge gave no verdict"),
    "deep JSON": (200, DEEP, "cannot be read as JSON"),
    "deep content": (200, completion(json.loads("[" * 500 + "]" * 500)), "content is of type list"),
    "deep JSON of an error": (500, DEEP, "answered 500: [[[["),
    "a message that is not text": (400, b'{"error": {"message": {"a": [1]}}}', 'answered 400: {"error"'),
    "a message with controls": (400, b'{"error": {"message": "\\ud800\\n\\u001b[31m"}}', "answered 400:"),
    "a long number": (200, b"9" * 9000, "cannot be read as JSON"),
    "not UTF-8": (200, b'"\xff"', "cannot be read as JSON"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_not_a_completion(server, case):
    status, body, problem = BODIES[case]
    server.behave = lambda request, n: web.Response(body=body, status=status)
    assert problem in check_failure_is_counted(server.url)


@pytest.mark.parametrize("models", ['{"data": [{"id": [[1]]}]}', '{"data": {"id": 1}}', '{"data": [null]}', "[" * 5000])
def test_models_that_are_not_a_list_of_names(models):
    body = f"HTTP/1.1 200 OK\r\nContent-Length: {len(models)}\r\n\r\n{models}".encode()
    with raw_server(body) as url:
        check_failure_is_counted(url, model="")


HEAD = b"HTTP/1.1 200 OK\r\n"
EMPTY_BLOCKS = zlib.compressobj(wbits=31).flush(zlib.Z_SYNC_FLUSH) + b"\0\0\0\xff\xff" * 1_000_000
RAW = {
    "nothing": b"",
    "garbage": b"\0\1garbage\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 99\r\n\r\n{}",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "a broken chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a long header": HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "headers without end": HEAD + b"X: a\r\n" * 50_000,
    "a header that is not ASCII": HEAD + b"X\xff: \xff\r\n\r\n",
    "a cookie": HEAD + b"Set-Cookie: \x80=;;Domain=[\r\nContent-Length: 2\r\n\r\n{}",
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\nLocation: \xff://[\r\nContent-Length: 0\r\n\r\n",
    "a redirect without address": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not compressed": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "another compression": HEAD + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
    "compressed without content": HEAD + b"Content-Encoding: gzip\r\n\r\n" + EMPTY_BLOCKS,
}


class raw_server:
    """Answers every connection with the same bytes."""

    def __init__(self, answer):
        self.answer = answer

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(1 << 16)
                    connection.sendall(self.answer)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(1 << 16)
                except OSError:
                    continue

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.mark.parametrize("case", RAW)
def test_bytes_that_are_not_a_reply(case):
    with raw_server(RAW[case]) as url:
        reason = check_failure_is_counted(url)
    assert ("more than 1 MiB" in reason) == (case == "compressed without content")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.sampled_from(["content", "error", "a"]), value),
    max_leaves=6,
)
MESSAGE = JSON | st.fixed_dictionaries({}, optional={"content": JSON, "refusal": JSON})
CHOICE = JSON | st.fixed_dictionaries({}, optional={"message": MESSAGE, "finish_reason": JSON})
REPLY = JSON | st.fixed_dictionaries({}, optional={"choices": JSON | st.lists(CHOICE, max_size=2), "error": MESSAGE})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.binary(max_size=40) | REPLY.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([200, 200, 200, 202, 400, 404, 429, 500, 599]),
    st.sampled_from([{}, {"Retry-After": "-1"}, {"Content-Encoding": "deflate"}, {"Content-Type": "text/html"}]),
)
def test_any_reply_is_a_verdict_or_a_counted_failure(server, body, status, headers):
    server.behave = lambda request, n: web.Response(body=body, status=status, headers=headers)
    check_failure_is_counted(server.url)


LINES = ["VERDICT-{}: SAME", "VERDICT-{}: DIFFERENT", "SAME", "No.", "```", "</s>", "", "*", '"', "(", "VERDICT-{}"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(LINES) | st.text(max_size=10), max_size=5), st.sampled_from(["\n", " ", ""]))
def test_any_text_is_a_verdict_or_a_counted_failure(server, lines, separator):
    def behave(request, n):
        mark = re.search(r"VERDICT-(\w+): SAME", request["messages"][1]["content"])[1]
        return web.Response(body=completion(separator.join(lines).replace("{}", mark)))

    server.behave = behave
    result, failures = score(server.url)
    assert (result.status, failures) in (("ok", 0), ("judge_error", 1))
