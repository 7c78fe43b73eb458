"""Several servers used as one, against real HTTP servers: which is sent a request, when, and which rests."""

import asyncio
import gzip
import os
import re
import time
import tracemalloc

import pytest
from aiohttp import web
from support.fake_openai_server import Server, failure
from verl_longrl.endpoints import EndpointError, Endpoints, RequestError
from verl_longrl.rewards.options import ServerOptions


@pytest.fixture
def servers():
    both = [Server(), Server()]
    for server in both:
        server.honest, server.at = (lambda body: "fine"), []
    yield both
    for server in both:
        server.close()


def recorded(server, behave):
    """Let the server behave like this, and record the times of its requests."""

    def noting(body, n):
        server.at.append(time.monotonic())
        return behave(body, n)

    server.behave = noting


def talk(options, *names, apart_s=0.0):
    """The replies or errors of requests sent `apart_s` after one another, and the counters."""

    async def run():
        endpoints = Endpoints(options)

        async def ask(number, name):
            await asyncio.sleep(number * apart_s)
            body = {"messages": [{"role": "user", "content": name}]}
            return await endpoints.post("/chat/completions", body, lambda r: r["choices"][0]["message"]["content"])

        try:
            asked = (ask(number, name) for number, name in enumerate(names))
            return await asyncio.gather(*asked, return_exceptions=True), endpoints.metrics()
        finally:
            await endpoints.close()

    return asyncio.run(run())


def options(*servers, **changes):
    quick = {"timeout_s": 5.0, "backoff_s": 0.02, "max_backoff_s": 0.1, "model": "judge"}
    return ServerOptions(endpoints=tuple(server.url for server in servers), **{**quick, **changes})


def test_a_resting_server_is_sent_nothing(servers):
    one = servers[0]
    recorded(one, lambda body, n: failure(429, headers={"Retry-After": "0.5"}) if n == 1 else "fine")
    replies, metrics = talk(options(one), *"abcdef", apart_s=0.05)
    assert replies == ["fine"] * 6
    assert metrics["retries"] == 1  # the others waited instead of asking
    assert min(one.at[1:]) - one.at[0] >= 0.49
    assert max(one.at[1:]) - min(one.at[1:]) > 0  # and did not all come at once


def test_requests_go_to_the_other_server_during_a_rest(servers):
    one, other = servers
    recorded(one, lambda body, n: failure(429, headers={"Retry-After": "5"}))
    started = time.monotonic()
    replies, metrics = talk(options(*servers), *"abcdef", apart_s=0.02)
    assert replies == ["fine"] * 6
    assert (len(one.bodies), len(other.bodies), metrics["benched"]) == (1, 6, 1)
    assert time.monotonic() - started < 4


def test_a_reply_to_an_earlier_request_does_not_end_a_rest(servers):
    one = servers[0]
    recorded(one, lambda body, n: [0.3, failure(429, headers={"Retry-After": "1"}), "fine"][min(n, 3) - 1])
    replies, _ = talk(options(one), *"abc", apart_s=0.2)  # a: 0 to 0.3, b: sent away at 0.2, c: from 0.4
    assert replies == ["fine"] * 3
    assert one.at[2] - one.at[1] >= 0.99


def test_a_server_that_always_answers_retry_after_costs_the_attempts(servers):
    one = servers[0]
    recorded(one, lambda body, n: failure(429, "never", {"Retry-After": "0.1"}))
    replies, _ = talk(options(one, attempts=3), *"abcdef")
    assert all(isinstance(reply, RequestError) and reply.status == 429 for reply in replies)
    assert one.at[-1] - one.at[0] < 2


def test_a_benched_server_is_used_without_another_and_after_its_cooldown(servers):
    one, other = servers
    recorded(one, lambda body, n: failure(500) if n == 1 else "fine")
    replies, metrics = talk(options(one, cooldown_s=60.0), "a", "b", apart_s=0.3)
    assert (replies, metrics["retries"], metrics["benched"]) == (["fine"] * 2, 1, 0)
    one.bodies.clear()
    replies, metrics = talk(options(*servers, cooldown_s=0.3), *"abcdefgh", apart_s=0.1)
    assert replies == ["fine"] * 8
    assert len(other.bodies) >= 3  # while the first was benched
    assert len(one.bodies) >= 2  # and back it is


def test_waits_grow_between_attempts(servers):
    one = servers[0]
    recorded(one, lambda body, n: failure(503))
    talk(options(one, attempts=6, backoff_s=0.02, max_backoff_s=10.0), *["a"] * 20)
    assert 0.05 < one.at[-1] - one.at[0] < 0.02 * (1 + 2 + 4 + 8 + 16) + 2


def test_a_key_with_its_line_end_is_used_and_one_with_a_break_refused(servers, monkeypatch):
    one = servers[0]
    monkeypatch.setenv("LONGRL_API_KEY", "secret\r\n")
    assert talk(options(one), "a")[0] == ["fine"]
    assert one.keys == ["Bearer secret"]
    monkeypatch.setenv("LONGRL_API_KEY", "sec\nret")
    ((error,), _) = talk(options(one), "a")
    assert isinstance(error, EndpointError)
    assert "$LONGRL_API_KEY: the key has a line break" in str(error)


@pytest.mark.parametrize("key", ["se\x00cret", "se\x7fcret", "se cret", "sécret"])
def test_a_key_that_a_header_cannot_hold_is_refused(servers, monkeypatch, key: str):
    monkeypatch.setattr("os.environ", {**os.environ, "LONGRL_API_KEY": key})  # a real one cannot have \x00
    ((error,), _) = talk(options(servers[0]), "a")
    assert isinstance(error, EndpointError)
    assert "$LONGRL_API_KEY: the key has" in str(error)
    assert key not in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(servers, status: int):
    one, other = servers
    recorded(one, lambda body, n: web.Response(status=status, headers={"Location": f"{other.url}/chat/completions"}))
    ((error,), metrics) = talk(options(one), "a document")
    assert isinstance(error, RequestError)
    assert f"redirects to {other.url}/chat/completions, which is not followed. Fix: correct" in str(error)
    assert other.bodies == []
    assert metrics["retries"] == 0


def test_an_endless_reply_is_not_read_to_its_end(servers):
    sent = []

    async def endless():
        while len(sent) < 400:
            sent.append(1)
            yield b" " * (1 << 20)

    recorded(servers[0], lambda body, n: web.Response(body=endless()))
    ((error,), _) = talk(options(servers[0], attempts=1), "a")
    assert "sent a reply of more than 1 MiB" in str(error)
    assert len(sent) < 40  # what the sockets hold


def test_a_compressed_bomb_is_not_read_to_its_end(servers):
    small = gzip.compress(b" " * (200 << 20), 1)
    headers = {"Content-Encoding": "gzip"}
    recorded(servers[0], lambda body, n: web.Response(body=small, headers=headers))
    tracemalloc.start()
    try:
        ((error,), _) = talk(options(servers[0], attempts=1), "a")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "sent a reply of more than 1 MiB" in str(error)
    assert most < 32 << 20


def test_a_server_that_repeats_the_key_is_not_quoted(servers, monkeypatch):
    """A server's message gets into errors, which get into logs and rollouts."""
    monkeypatch.setenv("MY_OWN", "a-key-of-mine")
    recorded(servers[0], lambda body, n: failure(400, f"Incorrect API key provided: {servers[0].keys[-1]}"))
    ((error,), _) = talk(options(servers[0], api_key_env="MY_OWN"), "a")
    assert "Incorrect API key provided: Bearer [secret" in str(error)
    assert "a-key-of-mine" not in str(error)


@pytest.mark.parametrize(
    "url",
    ["https://me:password@host/v1", "https://sk-123@host/v1", "https://host/v1?api-key=123", "https://h/v1?a=b&sig=x"],
)
def test_an_address_with_a_key_is_refused(url: str):
    with pytest.raises(ValueError, match="as the environment variable that api_key_env names") as refused:
        ServerOptions(endpoints=(url,))
    assert not {"password", "sk-123", "123", "sig=x"} & {*re.split(r"[@:/?&]|key=", str(refused.value))}
