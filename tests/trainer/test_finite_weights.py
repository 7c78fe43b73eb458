"""One inf or nan in a rank's weights is found, whatever the role, the shape of the engine or the precision."""

import math
from types import SimpleNamespace

import pytest
import torch
from verl_longrl.trainer.finite_weights import _broken

pytestmark = pytest.mark.engine


def rank(*modules, critic=None):
    """A trainer rank with an actor of these modules, a frozen reference and perhaps a critic."""
    engine = SimpleNamespace(module=list(modules) if len(modules) > 1 else modules[0])
    roles = {
        "actor_rollout": SimpleNamespace(actor=SimpleNamespace(engine=engine)),
        "ref": SimpleNamespace(actor=None),
    }
    if critic is not None:
        roles["critic"] = SimpleNamespace(engine=SimpleNamespace(module=critic))
    return SimpleNamespace(worker_dict=roles)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_bad_weight_is_named(value, dtype):
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)).to(dtype)
    assert _broken(rank(module)) == []
    with torch.no_grad():
        module[1].weight[3, 5] = value
    assert _broken(rank(module)) == ["1.weight"]
    assert _broken(rank(torch.nn.Linear(2, 2), module)) == ["1.weight"]  # Megatron's list
    assert _broken(rank(torch.nn.Linear(2, 2), critic=module)) == ["1.weight"]


def test_the_largest_weights_there_can_be_are_good_ones():
    module = torch.nn.Linear(1000, 1000).half()
    torch.nn.init.constant_(module.weight, 65504.0)  # float16 ends there
    assert _broken(rank(module)) == []


def test_quantised_weights_and_empty_shards_are_passed_over():
    module = torch.nn.Linear(2, 2)
    module.shard = torch.nn.Parameter(torch.zeros(0))
    module.codes = torch.nn.Parameter(torch.zeros(4, dtype=torch.int8), requires_grad=False)
    assert _broken(rank(module)) == []
