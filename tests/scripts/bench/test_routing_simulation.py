"""64 replicas, prompts of 1K to 128K tokens, responses of random length that end at any time: load stays even.

*Load* is defined twice, per replica over a whole step: the prompt tokens that it prefilled, and the sum of these and
the response tokens that it decoded. Of neither has any replica more than 1.3 times the mean, where there are 32 prompts
for each. With fewer, a single prompt can be more than that allows (128K tokens are the mean of 6 prompts): it stays
whole, and the promise is then that of every online schedule of whole prompts: no replica is ahead of the mean by more
than one largest group.
"""

import random

import pytest
from routing_simulation import Loads, Request, simulate, skewed_step
from verl_longrl.rollout.affinity import PromptAffinityBalancer

REPLICAS = [f"replica-{number}" for number in range(64)]


def unique_tokens(requests: list[Request]) -> int:
    return sum({request.prompt: request.prompt_tokens for request in requests}.values())


@pytest.mark.parametrize("over_s", [5.0, 200.0], ids=["burst", "stream"])
@pytest.mark.parametrize("rollouts", [8, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_replica_has_more_than_1_3_times_the_mean(seed, rollouts, over_s):
    requests = skewed_step(32 * len(REPLICAS), rollouts, seed, over_s)
    loads = simulate(PromptAffinityBalancer(dict.fromkeys(REPLICAS)), requests)
    assert Loads.unevenness(loads.prefill) <= 1.3
    assert Loads.unevenness(loads.work) <= 1.3
    assert sum(loads.prefill) <= 1.1 * unique_tokens(requests)


@pytest.mark.parametrize("per_replica", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_with_few_prompts_no_replica_is_ahead_by_more_than_one_group(seed, per_replica):
    requests = skewed_step(per_replica * len(REPLICAS), 8, seed)
    loads = simulate(PromptAffinityBalancer(dict.fromkeys(REPLICAS)), requests)
    longest = max(request.prompt_tokens for request in requests)
    assert max(loads.prefill) <= sum(loads.prefill) / len(REPLICAS) + longest
    assert max(loads.work) <= sum(loads.work) / len(REPLICAS) + longest + 8 * 4096


@pytest.mark.engine
@pytest.mark.parametrize(("rollouts", "times"), [(8, 5), (16, 8)])
def test_upstream_prefills_several_times_as_much_and_its_busiest_replica_works_longer(rollouts, times):
    from verl.workers.rollout.router import GlobalRequestLoadBalancer

    requests = skewed_step(16 * len(REPLICAS), rollouts, seed=0)
    random.seed(0)
    upstream = simulate(GlobalRequestLoadBalancer(dict.fromkeys(REPLICAS)), requests)
    ours = simulate(PromptAffinityBalancer(dict.fromkeys(REPLICAS)), requests)
    print(f"prefilled, of {unique_tokens(requests)}: verl {sum(upstream.prefill)}, ours {sum(ours.prefill)}")
    assert sum(upstream.prefill) >= times * sum(ours.prefill)
    assert max(upstream.work) >= times / 2 * max(ours.work)
    assert upstream.seconds > ours.seconds


def test_the_simulation_counts_what_a_replica_computes():
    class Turns:
        """Replicas in turn, and who was released when."""

        def __init__(self) -> None:
            self.asked: list[str] = []
            self.released: list[str] = []

        def get_all_servers(self) -> list[str]:
            return ["a", "b"]

        def require_acquire_fields(self) -> list[str]:
            return ["prompt_tokens"]

        def acquire_server(self, request_id: str, prompt_tokens: int) -> tuple[str, None]:
            self.asked.append(f"{request_id}: {prompt_tokens}, {len(self.released)} done")
            return "ab"[int(request_id) % 2], None

        def release_server(self, server_id: str, request_id: str) -> None:
            self.released.append(request_id)

    balancer = Turns()
    requests = [
        Request(0.0, 0, 20_000, 40),  # a: 1 s of prefill, 1 s of decoding
        Request(0.0, 0, 20_000, 80),  # b: the same prompt again
        Request(0.5, 0, 20_000, 20),  # a: cached, but not before 1 s
        Request(10.0, 1, 2_000, 4),
    ]
    loads = simulate(balancer, requests)
    assert loads.prefill == [20_000, 22_000]
    assert loads.work == [20_060, 22_084]
    assert loads.seconds == pytest.approx(10.2)
    assert balancer.released == ["2", "0", "1", "3"]
    assert balancer.asked[-1] == "3: 2000, 3 done"
