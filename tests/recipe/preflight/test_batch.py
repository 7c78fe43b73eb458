"""Sizes that do not divide or do not fit are named with the key to change."""

import re

import pytest

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("batch", ["actor.ppo_mini_batch_size=3"], "8: must be a multiple of .*ppo_mini_batch_size = 3"),
        ("batch", ["actor.ppo_max_token_len_per_gpu=100"], "less than one sequence of 1088. Fix: at least 1088"),
        ("batch", ["rollout.log_prob_max_token_len_per_gpu=100"], "log_prob_max_token_len_per_gpu = 100: .*1088"),
        ("batch", ["actor.ppo_mini_batch_size=1", "rollout.n=1"], "must be a multiple of the 2 data-parallel ranks"),
        ("parallelism", ["rollout.tensor_model_parallel_size=3"], "= 3: must divide 2 GPUs"),
        ("parallelism", ["actor.ulysses_sequence_parallel_size=2"], "Fix: .*model.use_remove_padding=true"),
    ],
)
def test_a_size_that_does_not_fit_is_named(check, name: str, overrides: list[str], message: str):
    status, detail = check(*(f"actor_rollout_ref.{override}" for override in overrides))[name]
    assert status == "FAIL"
    assert re.search(message, detail), detail


def test_groups_of_one_are_all_filtered(check):
    status, detail = check("actor_rollout_ref.rollout.n=1", "algorithm.filter_groups.enable=true")["batch"]
    assert status == "FAIL"
    assert "Fix: raise rollout.n, or set algorithm.filter_groups.enable=false" in detail
