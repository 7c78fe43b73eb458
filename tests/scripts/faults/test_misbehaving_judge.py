"""The judge misbehaves as it is told to."""

import concurrent.futures
import json
import time
import urllib.error
import urllib.request

import pytest
from faults.misbehaving_judge import MisbehavingJudge

QUESTION = {"messages": [{"role": "user", "content": "Say VERDICT-ab12: SAME or VERDICT-ab12: DIFFERENT"}]}


@pytest.fixture
def judge():
    judge = MisbehavingJudge()
    yield judge
    judge.close()


def ask(judge, timeout=10.0):
    """Status and text of the response."""
    body = json.dumps(QUESTION).encode()
    request = urllib.request.Request(f"{judge.url}/chat/completions", body, {"Authorization": "Bearer canary-1234"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, json.load(reply)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]["message"]


def test_each_behaviour(judge):
    assert ask(judge) == (200, "VERDICT-ab12: DIFFERENT")
    judge.behaviour = "garbage"
    assert "VERDICT-" not in ask(judge)[1]
    judge.behaviour = "echo"
    assert ask(judge) == (401, "Incorrect API key provided: Bearer canary-1234")
    judge.behaviour = "away"
    assert ask(judge)[0] == 503
    judge.behaviour = "silent"
    with pytest.raises(TimeoutError):
        ask(judge, timeout=0.3)


def test_open_requests_end_when_the_judge_is_back(judge):
    judge.behaviour = "silent"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        request = pool.submit(ask, judge)
        time.sleep(0.3)
        judge.behaviour = "honest"
        assert isinstance(request.exception(timeout=5), OSError)
