"""Every way in which a server can answer ends in the documented state."""

import asyncio
import json
import socketserver
import threading
from collections import Counter, defaultdict

import pytest
from aiohttp import web
from support.fake_openai_server import Server, failure, reply
from verl_longrl.data.jsonl import encode_line

from recipe.longrl.evaluation.client import (
    GIVE_UP_AFTER,
    Client,
    ClientOptions,
    ModelGone,
    Request,
    TokenBudget,
    group_requests,
)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def request(key="a", group="g", tokens=10, text="question"):
    return Request(key, group, tokens, lambda: {"messages": [{"role": "user", "content": text}], "max_tokens": 8})


def ask(urls, requests, **options):
    """The outcomes of requests, by key."""
    outcomes = {}

    async def run():
        settings = ClientOptions(**{"attempts": 2, "timeout_s": 60, **options})
        client = Client(urls, "judge", "LONGRL_TEST_KEY", 1000, settings)
        try:
            await client.ask_all(requests, lambda outcome: outcomes.update({outcome["key"]: outcome}))
        finally:
            await client.close()

    asyncio.run(run())
    return outcomes


def message(finish_reason="stop", **fields):
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **fields}}
    return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})


def sent(body):
    """A reply of exactly this JSON text, which may be none."""
    return web.Response(body=body.encode(), content_type="application/json")


COUNTS = '{"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}], "usage": %s}'
LONG = "Paris. " * (10 << 20 >> 3)
HANG = 20.0
"""Seconds until a server that hangs answers."""


TWO_THINKS = "<think>a</think> Rome? <think>b</think> Paris"


@pytest.mark.parametrize(
    ("behave", "state", "text", "asked"),
    [
        (lambda n: "Paris", "scored", "Paris", 1),
        (lambda n: reply("Par", "length"), "cut", "Par", 1),
        (lambda n: reply("", "stop"), "scored", "", 1),
        (lambda n: message(content=None), "scored", "", 1),
        (lambda n: message("length", content=None, reasoning_content="long thoughts"), "cut", "", 1),
        (lambda n: reply(TWO_THINKS), "scored", TWO_THINKS, 1),
        (lambda n: reply("Par", "content_filter"), "failed", "Par", 1),
        (lambda n: reply("", "model_length"), "failed", "", 1),
        (lambda n: failure(400, "maximum context length is 4096 tokens"), "failed", None, 1),
        (lambda n: failure(429, headers={"Retry-After": "0.1"}) if n == 1 else "Paris", "scored", "Paris", 2),
        (lambda n: failure(429), "failed", None, 2),
        (lambda n: failure(500) if n == 1 else "Paris", "scored", "Paris", 2),
        (lambda n: HANG, "failed", None, 2),
        (lambda n: HANG if n == 1 else "Paris", "scored", "Paris", 2),
        (lambda n: sent('{"choices": [{"mess'), "failed", None, 2),
        (lambda n: sent("<html>Bad gateway</html>"), "failed", None, 2),
        (lambda n: sent("[" * 100_000), "failed", None, 2),
        (lambda n: sent(""), "failed", None, 2),
        (lambda n: sent("null"), "failed", None, 2),
        (lambda n: sent(COUNTS % "NaN"), "failed", None, 2),
        (lambda n: sent(COUNTS % '{"prompt_tokens": NaN, "completion_tokens": "3"}'), "scored", "Paris", 1),
        (lambda n: sent(COUNTS % "null"), "scored", "Paris", 1),
        (lambda n: sent(COUNTS.replace('"Paris"', "NaN") % "null"), "failed", None, 2),
        (lambda n: sent(COUNTS.replace('"Paris"', '["Paris"]') % "null"), "failed", None, 2),
        (lambda n: reply(LONG), "scored", LONG, 1),
        (lambda n: web.json_response({"choices": []}), "failed", None, 2),
        (lambda n: failure(404, "The model `other` does not exist."), "failed", None, 1),
        (lambda n: web.json_response({"error": {"message": "context too long"}}), "failed", None, 2),
        (lambda n: message(None, content="Paris"), "failed", None, 2),
    ],
)
def test_states(server, behave, state, text, asked):
    server.behave = lambda body, n: behave(n)
    hangs = behave(1) == HANG
    outcome = ask([server.url], [request()], **{"timeout_s": 2.0} if hangs else {})["a"]
    assert (outcome["state"], outcome.get("text"), len(server.bodies)) == (state, text, asked)
    assert bool(outcome.get("error")) == (state == "failed")


@pytest.mark.parametrize("usage", ['{"prompt_tokens": NaN}', '{"prompt_tokens": -1}', '{"prompt_tokens": true}', "{}"])
def test_counts_that_are_none_are_unknown(server, usage):
    server.behave = lambda body, n: sent(COUNTS % usage)
    assert ask([server.url], [request()])["a"]["prompt_tokens"] is None


def test_half_a_body_is_no_answer():
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + (COUNTS % "null").encode())
            handled.append(1)

    handled = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as halves:
        threading.Thread(target=halves.serve_forever, daemon=True).start()
        outcome = ask([f"http://127.0.0.1:{halves.server_address[1]}/v1"], [request()])["a"]
        halves.shutdown()
    assert (outcome["state"], len(handled)) == ("failed", 2)
    assert "did not answer: ClientPayloadError" in outcome["error"]


def test_text_that_utf_8_cannot_hold_is_logged(server):
    server.behave = lambda body, n: sent(COUNTS.replace("Paris", "Par\\ud800is") % "null")
    outcome = ask([server.url], [request()])["a"]
    assert json.loads(encode_line(outcome))["text"] == "Par?is"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_apart(server, name):
    server.behave = lambda body, n: message(content="Paris", **{name: "It could be Rome."})
    outcome = ask([server.url], [request()])["a"]
    assert (outcome["text"], outcome["reasoning"], outcome["prompt_tokens"]) == ("Paris", "It could be Rome.", 9)


def test_a_run_ends_when_everything_fails(server):
    server.behave = lambda body, n: failure(400, "no such model")
    with pytest.raises(ModelGone, match="no such model"):
        ask([server.url], [request(str(i), str(i)) for i in range(200)], concurrency=4)
    assert len(server.bodies) <= GIVE_UP_AFTER + 4


def test_single_failures_do_not_end_a_run(server):
    server.behave = lambda body, n: failure(400) if n % 10 else "Paris"
    outcomes = ask([server.url], [request(str(i), str(i)) for i in range(40)], concurrency=1)
    assert sum(outcome["state"] == "scored" for outcome in outcomes.values()) == 4


def test_a_document_stays_on_one_replica_and_is_asked_one_after_another():
    open_requests, most_open, replicas = Counter(), Counter(), defaultdict(set)

    def serve(name):
        def begin(body, n):
            document = body["messages"][0]["content"]
            replicas[document].add(name)
            open_requests[document] += 1
            most_open[document] = max(most_open[document], open_requests[document])
            return 0.01

        def end(body):
            open_requests[body["messages"][0]["content"]] -= 1
            return "yes"

        return Server(honest=end, behave=begin)

    servers = [serve(name) for name in ("first", "second")]
    try:
        requests = [request(f"{d}/{i}", f"group {d}", text=f"document {d}") for d in range(6) for i in range(5)]
        assert len(ask([each.url for each in servers], requests)) == 30
        assert [len(names) for names in replicas.values()] == [1] * 6
        assert [*most_open.values()] == [1] * 6
        assert [len(each.bodies) for each in servers] == [15, 15]
    finally:
        for each in servers:
            each.close()


def test_another_replica_answers_for_one_that_is_gone(server):
    outcomes = ask(["http://127.0.0.1:9/v1", server.url], [request(str(i), str(i)) for i in range(4)])
    assert {outcome["state"] for outcome in outcomes.values()} == {"scored"}


def test_tokens_in_flight_are_bounded_and_the_longest_is_first(server):
    server.behave = lambda body, n: 0.02
    requests = [request(str(i), str(i), tokens=i, text=str(i)) for i in range(1, 9)]
    ask([server.url], requests, tokens_in_flight=8)
    assert server.bodies[0]["messages"][0]["content"] == "8"
    assert server.most_at_once <= 4
    assert len(server.bodies) == 8


def test_groups_are_longest_first():
    groups = group_requests([request("a", "x", 1), request("b", "y", 5), request("c", "x", 9)])
    assert [[each.key for each in group] for group in groups] == [["c", "a"], ["b"]]


def test_the_budget_is_kept_at_every_moment():
    async def run():
        budget, most = TokenBudget(10), 0

        async def use(tokens):
            nonlocal most
            async with budget.hold(tokens):
                most = max(most, budget.in_flight)
                await asyncio.sleep(0.001)

        await asyncio.gather(*map(use, [4, 7, 3, 10, 2, 8, 1, 5]))
        assert (most, budget.in_flight) == (10, 0)
        async with budget.hold(99):
            assert budget.in_flight == 99

    asyncio.run(run())
