"""Outputs are kept by prompt and request, and given again in the place of what is generated."""

import asyncio
from types import SimpleNamespace

import pytest
from faults import replay


class Server:
    """Answers each request with a new number."""

    def __init__(self):
        self.number = 0

    async def generate(self, request_id, *, prompt_ids, **rest):
        self.number += 1
        number = self.number
        await asyncio.sleep(0.01 * (10 - number))  # the first is answered last
        about = {"replica": 1}
        return SimpleNamespace(token_ids=[number], log_probs=[-number], stop_reason="completed", extra_fields=about)


async def ask(generate, server, *prompts):
    outputs = await asyncio.gather(*(generate(server, "id", prompt_ids=[1, 2, prompt]) for prompt in prompts))
    return [output.token_ids[0] for output in outputs]


@pytest.fixture
def kept(tmp_path):
    said = asyncio.run(ask(replay.keeping(Server.generate, tmp_path), Server(), 7, 8, 7, 8))
    assert said == [1, 2, 3, 4]
    return tmp_path


def test_what_was_kept_is_given_again_by_prompt_and_request(kept):
    again = replay.replaying(Server.generate, kept)
    server = Server()
    assert asyncio.run(ask(again, server, 8, 7, 7, 8)) == [2, 1, 3, 4]
    assert server.number == 4  # it was asked all the same


def test_a_prompt_that_is_asked_again_gets_the_same(kept):
    again = replay.replaying(Server.generate, kept)
    assert asyncio.run(ask(again, Server(), 7, 7, 7, 7)) == [1, 3, 1, 3]


def test_all_that_training_reads_is_replaced_and_the_rest_is_not(kept):
    generate = replay.replaying(Server.generate, kept)
    server = Server()
    server.number = 5
    output = asyncio.run(generate(server, "id", prompt_ids=[1, 2, 8], priority=1))
    assert vars(output) == {
        "token_ids": [2],
        "log_probs": [-2],
        "stop_reason": "completed",
        "extra_fields": {"replica": 1},
    }


def test_a_prompt_that_was_never_kept_is_an_error(kept):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(replay.replaying(Server.generate, kept), Server(), 9))
