"""The client of the data pipelines against a real HTTP server that misbehaves."""

import asyncio
import time

import numpy as np
import pytest
from support.fake_openai_server import failure, reply

from data_gen.llm import LLM, MAX_REFUSED, LLMOptions, RequestFailed, ServersGone
from data_gen.reply_cache import ReplyCache

DEAD = "http://127.0.0.1:9/v1"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def options(*urls, **changes):
    quick = {"timeout_s": 5.0, "attempts": 3, "backoff_s": 0.01, "cooldown_s": 0.0, "model": "judge", "name": "default"}
    return LLMOptions(endpoints=urls, **{**quick, **changes})


def talk(llm_options, *texts, cache=None, **changes):
    """Replies (or errors) to `texts`, asked at once, and the client's totals."""

    async def run():
        llm = LLM(llm_options, cache)
        try:
            await llm.open()
            given = {"max_tokens": 9, "seed": 1, "temperature": 0.5, **changes}
            asked = (llm.chat([{"role": "user", "content": text}], **given) for text in texts)
            return await asyncio.gather(*asked, return_exceptions=True), llm.totals()
        finally:
            await llm.close()

    return asyncio.run(run())


def text_of(body):
    return body["messages"][0]["content"]


def test_replies_tokens_and_cost(server):
    server.behave = lambda body, n: reply(f"you said {text_of(body)}", "length" if n == 2 else "stop")
    (one,), totals = talk(options(server.url, price_in=2.0, price_out=10.0), "a")
    assert (one.text, one.finish_reason, one.prompt_tokens, one.completion_tokens) == ("you said a", "stop", 7, 3)
    assert totals["requests"] == 1
    assert totals["cost"] == pytest.approx((7 * 2 + 3 * 10) / 1e6)
    assert server.bodies[0]["seed"] == 1
    assert talk(options(server.url), "a")[0][0].finish_reason == "length"


def test_the_same_request_is_paid_for_once(server, tmp_path):
    server.behave = lambda body, n: f"reply {n}"
    cache = ReplyCache(tmp_path / "c.sqlite")
    first, _ = talk(options(server.url), "a", "b", cache=cache)
    with pytest.raises(ValueError, match=r"c.sqlite: another process uses it"):
        ReplyCache(tmp_path / "c.sqlite")
    cache.close()
    cache = ReplyCache(tmp_path / "c.sqlite")
    again, totals = talk(options(server.url), "a", "b", cache=cache)
    assert again == first
    assert (totals["cached"], len(server.bodies)) == (2, 2)
    assert (totals["requests"], totals["prompt_tokens"]) == (2, 14)  # spent before, and still counted
    talk(options(server.url), "a", cache=cache, seed=2)
    assert len(server.bodies) == 3


def test_equal_requests_at_once_are_one(server, tmp_path):
    server.behave, server.honest = (lambda body, n: 0.05), (lambda body: f"reply {len(server.bodies)}")
    replies, totals = talk(options(server.url), "a", "a", "a", cache=ReplyCache(tmp_path / "c.sqlite"))
    assert len({reply.text for reply in replies}) == len(server.bodies) == totals["requests"] == 1


def test_half_a_character_which_a_model_may_have_written_can_be_asked_about(server):
    server.behave = lambda body, n: f"{len(text_of(body))}"
    (one,), _ = talk(options(server.url), "a\ud800b")
    assert one.text == "3"


def test_trouble_is_retried_and_retry_after_obeyed(server):
    at = []

    def behave(body, n):
        at.append(time.monotonic())
        return [failure(429, headers={"Retry-After": "0.4"}), failure(503), "fine"][n - 1]

    server.behave = behave
    (one,), totals = talk(options(server.url), "a")
    assert (one.text, totals["retries"]) == ("fine", 2)
    assert at[1] - at[0] >= 0.39


def test_a_request_that_hangs_costs_its_timeout_only(server):
    server.behave = lambda body, n: 30.0 if n == 1 else "fine"
    (one,), _ = talk(options(server.url, timeout_s=0.3), "a")
    assert one.text == "fine"


def test_concurrency_is_bounded(server):
    server.behave, server.honest = (lambda body, n: 0.02), (lambda body: "fine")
    talk(options(server.url, concurrency=5), *map(str, range(40)))
    assert server.most_at_once == 5


def test_one_of_several_endpoints_may_be_dead(server, capsys):
    server.behave, server.honest = (lambda body, n: 0.01), (lambda body: "fine")

    async def run():
        llm = LLM(options(DEAD, server.url, cooldown_s=60.0))
        await llm.open()
        asked = [
            llm.chat([{"role": "user", "content": f"{i}"}], max_tokens=9, seed=1, temperature=0) for i in range(20)
        ]
        replies = await asyncio.gather(*asked)
        await llm.close()
        return replies

    assert [r.text for r in asyncio.run(run())] == ["fine"] * 20
    assert f"warning: servers.default {DEAD} does not answer GET /models" in capsys.readouterr().err


def test_one_refused_request_is_that_requests_failure(server):
    server.behave = lambda body, n: failure(400, "prompt is too long") if text_of(body) == "long" else "fine"
    (long, short), totals = talk(options(server.url), "long", "short")
    assert isinstance(long, RequestFailed)
    assert "prompt is too long" in str(long)
    assert (short.text, totals["failed"]) == ("fine", 1)


def test_a_request_nobody_answers_while_others_are(server):
    server.behave = lambda body, n: 0.2 if text_of(body) == "poison" else "fine"
    server.honest = lambda body: failure(429, "poison")

    async def run():
        llm = LLM(options(server.url, attempts=4))
        await llm.open()
        ask = {"max_tokens": 9, "seed": 1, "temperature": 0}
        poison = asyncio.create_task(llm.chat([{"role": "user", "content": "poison"}], **ask))
        await asyncio.sleep(0.3)  # it has failed once, and will three times more
        await llm.chat([{"role": "user", "content": "short"}], **ask)
        try:
            with pytest.raises(RequestFailed, match=r"no answer from .* in 4 attempts: .* answered 429: poison"):
                await poison
        finally:
            await llm.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (
            lambda body, n: failure(500),
            r"no answer from .* in 3 attempts.*Fix: start the server again",
        ),
        (lambda body, n: failure(401), r"answered 401: .*correct servers.default: endpoints, model or the key"),
        (lambda body, n: failure(404), r"answered 404: .*correct servers.default"),
    ],
)
def test_servers_that_are_gone_end_the_run(server, behave, message):
    server.behave = behave
    (one,), _ = talk(options(server.url), "a")
    assert isinstance(one, ServersGone)
    with pytest.raises(ServersGone, match=message):
        raise one


def test_a_server_that_refuses_everything_ends_the_run(server):
    server.behave = lambda body, n: failure(400, "max_tokens is too large")
    results, _ = talk(options(server.url, concurrency=1), *map(str, range(MAX_REFUSED)))
    assert [type(r) for r in results] == [RequestFailed] * (MAX_REFUSED - 1) + [ServersGone]
    assert f"refused the first {MAX_REFUSED} requests" in str(results[-1])


def test_open_names_what_is_wrong(server):
    with pytest.raises(ServersGone, match=r"servers.default .* does not answer GET /models.*start the server"):
        talk(options(DEAD), "a")
    with pytest.raises(ServersGone, match=r"serves \['judge'\], not 'gpt'. Fix: correct servers.default.model"):
        talk(options(server.url, model="gpt"), "a")


def test_structured_decoding_is_used_where_it_is_offered(server):
    server.behave = lambda body, n: '{"n": 1}'
    talk(options(server.url), "a", "b", schema=SCHEMA)
    probe, *asked = server.bodies
    assert probe["max_tokens"] == 16
    assert [body["response_format"]["json_schema"]["schema"] for body in asked] == [SCHEMA, SCHEMA]


@pytest.mark.parametrize(("status", "probes"), [(400, 1), (501, 3), (500, 3)])
def test_structured_decoding_is_left_out_where_it_is_not(server, status, probes):
    server.behave = lambda body, n: failure(status, "response_format") if "response_format" in body else '{"n": 1}'
    (a, b), _ = talk(options(server.url), "a", "b", schema=SCHEMA)
    assert a.text == b.text == '{"n": 1}'
    assert sum("response_format" in body for body in server.bodies) == probes
    server.bodies.clear()
    talk(options(server.url, structured="off"), "a", schema=SCHEMA)
    assert len(server.bodies) == 1


def test_extra_fields_are_sent_along(server):
    server.behave = lambda body, n: "fine"
    talk(options(server.url, extra_body={"chat_template_kwargs": {"enable_thinking": False}}), "a")
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_embeddings_come_back_in_order(server):
    server.embed = lambda texts: [[float(len(text)), 1.0] for text in texts]

    async def run(texts):
        llm = LLM(options(server.url))
        await llm.open()
        try:
            return await llm.embed(texts)
        finally:
            await llm.close()

    assert np.array_equal(asyncio.run(run(["a", "bbb"])), np.array([[1, 1], [3, 1]], dtype=np.float32))
    server.embed = lambda texts: [[1.0]]
    with pytest.raises(ServersGone, match="1 embeddings for 2 texts"):
        asyncio.run(run(["a", "b"]))


def test_wrong_options():
    with pytest.raises(ValueError, match=r"servers.x.structured = 'maybe': expected one of auto, on, off"):
        LLMOptions.from_dict({"structured": "maybe"}, "servers.x.")
    with pytest.raises(ValueError, match=r"servers.x.price_in = -1: expected a number of at least 0"):
        LLMOptions.from_dict({"price_in": -1}, "servers.x.")
