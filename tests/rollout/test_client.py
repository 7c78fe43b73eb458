"""The balancer receives a few bytes per request, and only declared fields. Ray is replaced by direct calls."""

import asyncio
import inspect
import pickle
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.engine


class Remote:
    """`handle.method.remote(...)` as Ray has it, on an object in this process; records what is sent."""

    def __init__(self, target):
        self.target, self.sent = target, []

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            result = getattr(self.target, name)(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        def remote(*args, **kwargs):
            self.sent.append((name, kwargs))
            return asyncio.ensure_future(call(*args, **kwargs))

        return SimpleNamespace(remote=remote)


class Server:
    async def generate(self, **_):
        return SimpleNamespace(extra_fields={"global_steps": 1})


def generate(balancer_class, *requests, **given):
    """The fields of each acquire and release after these requests, made one after the other."""
    from verl_longrl.rollout.client import PromptAffinityClient

    rollout = SimpleNamespace(response_length=77, name="vllm", full_determinism=False)
    config = SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout))

    async def run():
        balancer = Remote(balancer_class({"a": Remote(Server()), "b": Remote(Server())}))
        client = PromptAffinityClient(config, balancer)
        for number, (ids, sampling) in enumerate(requests):
            await client.generate(f"{number}", prompt_ids=ids, sampling_params=sampling, **given)
        await asyncio.sleep(0)
        return balancer

    balancer = asyncio.run(run())
    assert balancer.target.get_total_inflight() == 0
    return [kwargs for name, kwargs in balancer.sent if name == "acquire_server"]


def test_sends_key_length_and_limit():
    from verl_longrl.rollout.affinity import PromptAffinityBalancer, prompt_key

    long = list(range(100_000))
    short, repeated, other = generate(
        PromptAffinityBalancer, ([1, 2, 3], {}), ([1, 2, 3], {"max_tokens": 5}), (long, {"max_new_tokens": 6})
    )
    assert short == {
        "request_id": "0",
        "prompt_key": prompt_key([1, 2, 3]),
        "prompt_tokens": 3,
        "response_tokens": 77,
    }
    assert (repeated["prompt_key"], repeated["response_tokens"]) == (short["prompt_key"], 5)
    assert (other["prompt_tokens"], other["response_tokens"]) == (100_000, 6)
    assert len(pickle.dumps(other)) < len(pickle.dumps(short)) + 8


def test_prompts_with_pictures_have_no_key():
    from verl_longrl.rollout.affinity import PromptAffinityBalancer

    (sent,) = generate(PromptAffinityBalancer, ([1, 2, 3], {}), image_data=["picture"])
    assert sent == {"request_id": "0", "prompt_tokens": 3, "response_tokens": 77}


def test_with_upstreams_balancer_nothing_more_is_sent():
    from verl.workers.rollout.router import GlobalRequestLoadBalancer

    assert generate(GlobalRequestLoadBalancer, ([1, 2, 3], {})) == [{"request_id": "0"}]


def test_the_balancer_has_upstreams_interface_and_is_found_by_its_file():
    from verl.workers.rollout.router import RequestLoadBalancer, _load_router_yaml, _resolve_router_class
    from verl_longrl.rollout import ROUTER_CONFIG, affinity

    config = _load_router_yaml(str(ROUTER_CONFIG))
    assert _resolve_router_class(config["router_class"]) is affinity.PromptAffinityBalancer
    affinity.PromptAffinityBalancer({}, config)
    for name, method in inspect.getmembers(RequestLoadBalancer, inspect.isfunction):
        if not name.startswith("_"):
            ours = inspect.signature(getattr(affinity.PromptAffinityBalancer, name)).parameters
            wanted = {each for each in inspect.signature(method).parameters if each != "extra"}
            assert wanted <= set(ours), name
