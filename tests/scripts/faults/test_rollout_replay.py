"""Outputs are recorded by prompt and request, and returned in place of generated ones."""

import asyncio
from types import SimpleNamespace

import pytest
from faults import rollout_replay


class FakeServer:
    """Responds to each request with a new number."""

    def __init__(self):
        self.number = 0

    async def generate(self, request_id, *, prompt_ids, **rest):
        self.number += 1
        number = self.number
        await asyncio.sleep(0.01 * (10 - number))  # The first response is the last to arrive.
        extra_fields = {"replica": 1}
        return SimpleNamespace(
            token_ids=[number], log_probs=[-number], stop_reason="completed", extra_fields=extra_fields
        )


async def ask(generate, server, *prompts):
    outputs = await asyncio.gather(*(generate(server, "id", prompt_ids=[1, 2, prompt]) for prompt in prompts))
    return [output.token_ids[0] for output in outputs]


@pytest.fixture
def recorded(tmp_path):
    outputs = asyncio.run(ask(rollout_replay.recording(FakeServer.generate, tmp_path), FakeServer(), 7, 8, 7, 8))
    assert outputs == [1, 2, 3, 4]
    return tmp_path


def test_recorded_outputs_are_returned_by_prompt_and_request(recorded):
    generate = rollout_replay.replaying(FakeServer.generate, recorded)
    server = FakeServer()
    assert asyncio.run(ask(generate, server, 8, 7, 7, 8)) == [2, 1, 3, 4]
    assert server.number == 4  # The server has generated too.


def test_a_repeated_prompt_gets_the_same_outputs(recorded):
    generate = rollout_replay.replaying(FakeServer.generate, recorded)
    assert asyncio.run(ask(generate, FakeServer(), 7, 7, 7, 7)) == [1, 3, 1, 3]


def test_only_what_training_reads_is_replaced(recorded):
    generate = rollout_replay.replaying(FakeServer.generate, recorded)
    server = FakeServer()
    server.number = 5
    output = asyncio.run(generate(server, "id", prompt_ids=[1, 2, 8], priority=1))
    assert vars(output) == {
        "token_ids": [2],
        "log_probs": [-2],
        "stop_reason": "completed",
        "extra_fields": {"replica": 1},
    }


def test_an_unrecorded_prompt_is_an_error(recorded):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(rollout_replay.replaying(FakeServer.generate, recorded), FakeServer(), 9))
