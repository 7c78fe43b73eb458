"""Rollouts of a prompt meet on one replica, replicas stay even, and what comes back or goes away is accounted for."""

import ast
import random
from pathlib import Path

import pytest
import routing_simulation
from verl_longrl.rollout import affinity, options
from verl_longrl.rollout.affinity import PromptAffinityBalancer, prompt_key
from verl_longrl.rollout.options import AffinityOptions


class Pool:
    """A balancer with replicas a, b, ..., and requests named 0, 1, 2, ... in the order in which they are made."""

    def __init__(self, replicas: int, **options: float) -> None:
        self.names = [chr(ord("a") + number) for number in range(replicas)]
        self.balancer = PromptAffinityBalancer({name: f"handle-{name}" for name in self.names}, options)
        self.requests = 0

    def ask(self, prompt: str | None, tokens: int, response: int = 0, request: str | None = None) -> str:
        key = None if prompt is None else prompt.encode()
        name, handle = self.balancer.acquire_server(
            f"{self.requests}" if request is None else request,
            prompt_key=key,
            prompt_tokens=tokens,
            response_tokens=response,
        )
        assert handle == f"handle-{name}"
        self.requests += 1
        return name

    def count(self, name: str) -> int:
        return self.balancer.get_status()[name]


def test_rollouts_of_a_prompt_meet_and_prompts_spread():
    pool = Pool(4)
    homes = {prompt: {pool.ask(prompt, 1000, 10) for _ in range(8)} for prompt in "wxyz"}
    assert all(len(home) == 1 for home in homes.values())
    assert set.union(*homes.values()) == set("abcd")
    assert (pool.count("prompt_tokens"), pool.count("prefill_tokens"), pool.count("spilled")) == (32000, 4000, 0)


def test_prompts_are_evened_out_by_tokens_not_by_number():
    pool = Pool(2)
    assert pool.ask("long", 10_000) == "a"
    assert [pool.ask(f"short {number}", 1000) for number in range(10)] == ["b"] * 10
    assert pool.ask("next", 1000) == "a"


def test_a_prompt_larger_than_a_fair_share_stays_whole_and_its_replica_is_left_alone():
    pool = Pool(2)
    assert {pool.ask("huge", 100_000, 100) for _ in range(8)} == {"a"}
    assert {pool.ask(f"{number}", 5000, 100) for number in range(19)} == {"b"}


def test_decoding_counts_as_work():
    pool = Pool(2)
    assert pool.ask("x", 1000, response=4000) == "a"
    assert pool.ask("y", 1000) == "b"
    assert pool.ask("z", 1000) == "b"  # a has less prefill, and more work


def test_prefill_counts_even_where_load_is_less():
    pool = Pool(2, response_share=1.0)
    assert pool.ask("x", 1000) == "a"
    assert pool.ask("y", 100, response=1000) == "b"
    assert pool.ask("z", 100) == "b"


def test_among_equals_the_one_with_less_prefill_is_next():
    pool = Pool(3, response_share=1.0)
    loads = [("x", 200, 800), ("y", 100, 900), ("z", 1000, 1000)]
    assert [pool.ask(*load) for load in loads] == ["a", "b", "c"]
    assert pool.ask("next", 10) == "b"


def test_spills_when_the_difference_is_worth_the_prefill():
    pool = Pool(2, tolerance=0.0, response_share=1.0)
    assert [pool.ask("x", 1000, response=500) for _ in range(3)] == ["a"] * 3  # a: 1000 + 3 x 500
    assert pool.ask("x", 1000, response=500) == "b"  # 2500 is more than twice the prompt
    assert [pool.ask("x", 1000, response=500) for _ in range(3)] == ["b", "b", "a"]  # the one of the two with less
    assert (pool.count("prefill_tokens"), pool.count("spilled")) == (2000, 1)


def test_responses_are_expected_to_be_half_as_long_as_they_may():
    pool = Pool(2, tolerance=0.0)
    assert [pool.ask("x", 1000, response=500) for _ in range(6)] == ["a"] * 5 + ["b"]


def test_spills_to_the_one_with_less_prefill_among_equals():
    pool = Pool(3, tolerance=0.0, response_share=1.0)
    loads = [("x", 100, 1000), ("y", 200, 0), ("z", 100, 100)]
    assert [pool.ask(*load) for load in loads] == ["a", "b", "c"]
    assert pool.ask("x", 100) == "c"


def test_a_longer_prompt_stays_where_a_shorter_one_leaves():
    pool = Pool(2, tolerance=0.0, response_share=1.0)
    assert {pool.ask("x", 8000, response=500) for _ in range(16)} == {"a"}


def test_tolerance_leaves_small_differences_alone():
    def homes(tolerance: float) -> set[str]:
        pool = Pool(2, tolerance=tolerance, response_share=1.0)
        for number in range(20):
            pool.ask(f"{number}", 10_000)
        return {pool.ask("x", 100, response=500) for _ in range(8)}

    assert homes(0.0) == {"a", "b"}
    assert homes(0.2) == {"a"}


def test_turns_of_a_conversation_stay_and_prefill_only_what_is_new():
    pool = Pool(2)
    assert pool.ask("x", 1000, request="talk") == "a"
    pool.ask("y", 400)
    pool.balancer.release_server("a", "talk")
    for number in range(5):
        pool.ask(f"{number}", 500, request=f"other {number}")
    before = pool.count("prefill_tokens")
    assert pool.ask("x and more", 1300, request="talk") == "a"
    assert pool.count("prefill_tokens") - before == 300


def test_release_takes_back_exactly_what_was_counted():
    pool = Pool(2, tolerance=0.0, response_share=1.0)
    pool.ask("x", 1000, response=300)
    pool.ask("x", 1000, response=700)
    pool.ask("y", 1000, response=900)
    assert pool.balancer.get_status()["servers"] == {"a": 2, "b": 1}
    pool.balancer.release_server("a", "1")
    assert pool.balancer.get_status()["servers"] == {"a": 1, "b": 1}
    assert pool.ask("z", 10) == "a"  # 1300 against 1900
    pool.balancer.release_server("a", "1")  # released already
    assert pool.balancer.get_total_inflight() == 3


def test_a_request_id_twice_in_flight_is_released_twice():
    pool = Pool(1)
    pool.ask("x", 10, request="same")
    pool.ask("x", 10, request="same")
    for left in (1, 0):
        pool.balancer.release_server("a", "same")
        assert pool.balancer.get_total_inflight() == left


def test_of_two_with_one_id_the_earlier_is_released_first():
    pool = Pool(2, response_share=1.0)
    pool.ask("x", 10, response=1000, request="same")
    pool.ask("x", 10, response=10, request="same")
    pool.balancer.release_server("a", "same")
    assert pool.ask("y", 10, response=500) == "b"
    assert pool.ask("z", 10) == "a"


def test_what_replicas_forget_is_forgotten():
    pool = Pool(2)
    pool.ask("x", 1000, request="first")
    pool.balancer.release_server("a", "first")  # nothing in flight: the step ends, weights change, caches are emptied
    assert pool.balancer.get_status()["prompts_known"] == 0
    pool.ask("y", 1000)
    assert pool.ask("x", 1000) == "b"
    assert pool.count("prefill_tokens") == 3000


def test_clearing_forgets_conversations_and_prompts_and_keeps_what_is_in_flight():
    pool = Pool(2)
    for number in range(3):
        pool.ask("x", 1000, request=f"{number}")
    assert pool.balancer.clear_sticky_cache() == {"cleared_entries": 3, "server_loads": {"a": 3, "b": 0}}
    pool.ask("y", 100)
    assert pool.ask("x", 1000, request="0") == "b"
    assert pool.balancer.get_total_inflight() == 5


def test_a_removed_replica_gets_nothing_and_owes_nothing():
    pool = Pool(2)
    pool.ask("x", 1000, 10, request="talk")
    pool.balancer.remove_servers(["a", "unknown"])
    assert (pool.balancer.get_all_servers(), pool.balancer.get_total_inflight()) == (["b"], 0)
    assert pool.ask("x", 1000, request="talk") == "b"
    pool.balancer.release_server("a", "talk")  # comes late
    assert pool.balancer.get_status()["servers"] == {"b": 1}
    assert pool.count("prefill_tokens") == 2000


def test_a_replica_that_comes_back_has_an_empty_cache_and_no_old_debts():
    pool = Pool(2)
    assert pool.ask("x", 1000, 10, request="old") == "a"
    pool.ask("y", 1500, 10)
    pool.balancer.remove_servers(["a"])
    pool.balancer.add_servers({"a": "handle-a"})
    pool.balancer.release_server("a", "old")
    assert pool.balancer.get_total_inflight() == 1
    before = pool.count("prefill_tokens")
    pool.ask("x", 1000)
    pool.ask("x and more", 1300, request="old")
    assert pool.count("prefill_tokens") - before == 2300


def test_a_replica_added_again_is_a_new_one():
    pool = Pool(1)
    pool.ask("x", 1000)
    pool.balancer.add_servers({"a": "handle-a"})
    assert pool.balancer.get_total_inflight() == 0
    pool.ask("x", 1000)
    assert pool.count("prefill_tokens") == 2000


def test_a_new_replica_joins_level_with_the_others():
    pool = Pool(2)
    for prompt in "vwxy":
        pool.ask(prompt, 1000)
    pool.balancer.add_servers({"c": "handle-c"})
    assert sorted(pool.ask(f"new {number}", 1000) for number in range(3)) == ["a", "b", "c"]


def test_no_replicas():
    balancer = PromptAffinityBalancer({})
    with pytest.raises(
        RuntimeError, match="No available servers in load balancer"
    ):  # verl's client waits on these words
        balancer.acquire_server("0")
    balancer.add_servers({"a": 1})
    assert balancer.acquire_server("0") == ("a", 1)


def test_memory_is_bounded_and_the_least_recent_goes_first():
    pool = Pool(2, max_prompts=2, max_conversations=3)
    assert [pool.ask(prompt, 1000) for prompt in ("x", "y", "x", "z")] == ["a", "b", "a", "a"]  # y is forgotten
    assert pool.balancer.get_status()["prompts_known"] == 2
    before = pool.count("prefill_tokens")
    pool.ask("x", 1000)
    assert pool.count("prefill_tokens") == before
    pool.ask("y", 1000)
    assert pool.count("prefill_tokens") == before + 1000
    assert pool.balancer.clear_sticky_cache()["cleared_entries"] == 3


def test_requests_without_a_key_are_balanced_alone():
    pool = Pool(2)
    assert [pool.ask(None, 1000) for _ in range(4)] == ["a", "b", "a", "b"]
    assert pool.balancer.get_status()["prompts_known"] == 0


def test_the_same_calls_have_the_same_answers():
    def answers() -> list[str]:
        draw, pool, running = random.Random(3), Pool(5), []
        for _ in range(500):
            if running and draw.random() < 0.4:
                pool.balancer.release_server(*running.pop(draw.randrange(len(running))))
            request = f"{pool.requests}"
            running.append((pool.ask(f"{draw.randrange(60)}", draw.choice([100, 1000, 9000]), 500), request))
        return [name for name, _ in running]

    assert answers() == answers()


def test_keys_tell_prompts_apart_and_are_of_one_size():
    keys = {prompt_key(ids) for ids in ([1, 2, 3], [1, 2], [3, 2, 1], [1, 2, 3, 0], [], [2**40])}
    assert {len(key) for key in keys} == {16}
    assert len(keys) == 6
    assert prompt_key([1, 2, 3]) == prompt_key((1, 2, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"spil_cost": 3}, "spil_cost = 3: unknown key. Fix: use a valid key; the nearest is spill_cost"),
        ({"spill_cost": 0.5}, "spill_cost = 0.5: expected a number of at least 1"),
        ({"tolerance": -1}, "tolerance = -1"),
        ({"max_prompts": 0}, "max_prompts = 0"),
    ],
)
def test_wrong_options_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        AffinityOptions.from_dict(given)


@pytest.mark.parametrize("module", [affinity, options, routing_simulation], ids=lambda module: module.__name__)
def test_imports_nothing_heavy(module):
    tree = ast.parse(Path(module.__file__).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in modules} & {"ray", "torch", "verl", "vllm"}


def test_the_oldest_requests_in_flight(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(affinity.time, "monotonic", lambda: now[0])
    pool = Pool(2)
    for seconds, (prompt, tokens) in enumerate([("x", 100), ("y", 200), ("z", 300)]):
        now[0] = float(seconds)
        pool.ask(prompt, tokens)
    now[0] = 10.0
    pool.balancer.release_server("a", "0")
    assert pool.balancer.oldest_requests(1) == [("b", 9.0, 200)]
    assert pool.balancer.oldest_requests(5) == [("b", 9.0, 200), ("a", 8.0, 300)]
