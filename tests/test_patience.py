"""One limit for waiting for a server that is away, however many requests there are."""

import asyncio
import time

import pytest
from support.fake_openai_server import Server, failure
from verl_longrl import patience as module
from verl_longrl.endpoints import Endpoints, RequestError
from verl_longrl.patience import Patience, ServerAway
from verl_longrl.rewards.options import ServerOptions

GONE = RequestError("http://judge did not answer: ConnectionRefusedError", silent=True)
REFUSED = RequestError("http://judge answered 401: wrong key", 401)


class ScriptedServer:
    """Replies to the n-th request with `reply(n)`, or raises it, after `takes_s`. asked: the number of requests."""

    def __init__(self, reply, takes_s=0.0):
        self.reply, self.takes_s, self.asked = reply, takes_s, 0

    async def __call__(self):
        self.asked += 1
        found = self.reply(self.asked)
        await asyncio.sleep(self.takes_s)
        if isinstance(found, Exception):
            raise found
        return found


def ask(judge, count, minutes, said=None):
    """The results of `count` requests at once, four in flight, and the seconds that they took."""

    async def run():
        patience = Patience("the judge", minutes, 4, 0.02, (said if said is not None else []).append)
        started = time.monotonic()
        found = await asyncio.gather(*(patience.ask(judge) for _ in range(count)), return_exceptions=True)
        return found, time.monotonic() - started

    return asyncio.run(run())


def test_all_requests_are_answered_when_the_judge_comes_back():
    said: list[str] = []
    judge = ScriptedServer(lambda n: GONE if n < 30 else "yes")
    found, _ = ask(judge, 100, minutes=1, said=said)
    assert found == ["yes"] * 100
    assert judge.asked == 100 + 29
    assert said[0] == f"the judge is away ({GONE}); waiting for it for up to 1 min"
    assert [line.partition(" after ")[0] for line in said[1:]] == ["the judge answers again"]


def test_the_limit_is_shared_by_all_requests():
    """Each attempt takes a tenth of the limit, as where packets are dropped; 200 requests, 4 at a time."""
    judge = ScriptedServer(lambda n: GONE, takes_s=0.1)
    found, seconds = ask(judge, 200, minutes=1 / 60)
    assert all(isinstance(one, ServerAway) for one in found)
    assert str(found[0]) == f"the judge has been away for 1 s: {GONE}"
    assert 1 <= seconds < 3
    assert judge.asked < 20


def test_after_the_limit_the_server_is_retried_now_and_then(monkeypatch):
    monkeypatch.setattr(module, "RETRY_EVERY_S", 0.3)
    now = [GONE]
    judge = ScriptedServer(lambda n: now[0])

    async def run():
        patience = Patience("the judge", 0.1 / 60, 4, 0.01, lambda line: None)
        for _ in range(2):
            with pytest.raises(ServerAway):
                await patience.ask(judge)
        asked, now[0] = judge.asked, "yes"
        with pytest.raises(ServerAway):
            await patience.ask(judge)
        assert judge.asked == asked
        await asyncio.sleep(0.35)
        return await patience.ask(judge)

    assert asyncio.run(run()) == "yes"


def test_a_refusal_is_raised_at_once():
    assert ask(ScriptedServer(lambda n: REFUSED), 5, minutes=1)[0] == [REFUSED] * 5
    assert ask(ScriptedServer(lambda n: GONE if n == 1 else REFUSED), 5, minutes=1)[0] == [REFUSED] * 5


def test_a_request_that_breaks_the_judge_delays_no_other():
    """It is sent twice, and others are answered in between: so the judge is not away."""
    poison = ScriptedServer(lambda n: RequestError("http://judge answered 500", 500))
    fine = ScriptedServer(lambda n: "yes", takes_s=0.01)

    async def run():
        patience = Patience("the judge", 1, 4, 0.02, lambda line: None)
        others = [patience.ask(fine) for _ in range(100)]
        return await asyncio.gather(patience.ask(poison), *others, return_exceptions=True)

    first, *others = asyncio.run(run())
    assert isinstance(first, RequestError)
    assert others == ["yes"] * 100
    assert poison.asked == 2


def test_zero_minutes_do_not_wait():
    assert ask(ScriptedServer(lambda n: GONE), 3, minutes=0)[0] == [GONE] * 3


def test_progress_is_reported_now_and_then(monkeypatch):
    monkeypatch.setattr(module, "REPORT_EVERY_S", 0.1)
    said: list[str] = []
    ask(ScriptedServer(lambda n: GONE), 10, minutes=0.5 / 60, said=said)
    assert 2 <= len(said) <= 6


@pytest.mark.parametrize(
    ("behave", "away"),
    [
        (lambda: failure(500), True),
        (lambda: failure(503), True),
        (lambda: failure(429), True),
        (lambda: 2.0, True),  # longer than the time-out
        (lambda: failure(400), False),
        (lambda: failure(401), False),
        (lambda: failure(404), False),
        (lambda: "", False),  # a reply, and no verdict
    ],
)
def test_absence_is_told_from_other_errors(behave, away):
    server = Server()
    server.behave = lambda body, n: behave()

    def read(reply):
        if not (text := reply["choices"][0]["message"]["content"]):
            raise ValueError("empty")
        return text

    async def run():
        endpoints = Endpoints(ServerOptions(endpoints=(server.url,), model="judge", attempts=1, timeout_s=0.3))
        try:
            with pytest.raises(RequestError) as error:
                await endpoints.post("/chat/completions", {"messages": []}, read)
            assert error.value.away is away
        finally:
            await endpoints.close()

    asyncio.run(run())
    server.close()
