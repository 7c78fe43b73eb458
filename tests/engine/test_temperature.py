"""Log-probs of bfloat16 logits at a temperature that bfloat16 cannot hold, by the engine's own way from logits."""

from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from verl_longrl.engine.response_logits import Lengths, ResponseLogitsEngine

pytestmark = pytest.mark.engine
LENGTHS = (2000, 3000)
PER_ROW = torch.tensor([0.6, 0.7])


def engine():
    found = object.__new__(ResponseLogitsEngine)
    found.use_remove_padding = found.use_ulysses_sp = False
    return found


def micro_batch(temperature):
    nested = lambda sizes: torch.nested.as_nested_tensor(  # noqa: E731
        [torch.zeros(size, dtype=torch.long) for size in sizes], layout=torch.jagged
    )
    prompts = (3, 5)
    found = TensorDict(
        {"prompts": nested(prompts), "input_ids": nested(map(sum, zip(prompts, LENGTHS, strict=True)))}, batch_size=2
    )
    if isinstance(temperature, torch.Tensor):
        found["temperature"] = temperature
    else:
        found.set_non_tensor("temperature", temperature)
    return found


def errors(temperature):
    """Mean relative difference to float64 of log-probs from the same logits, and of their gradient.

    The less likely one of two words has, nearly, its logit over the temperature as log-prob: so a temperature rounded
    shows in all of them to one side, and what bfloat16 rounds after does not.
    """
    size = sum(LENGTHS)
    logits = torch.zeros(size, 2, dtype=torch.bfloat16)
    logits[:, 0] = 8 + 24 * torch.rand(size, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(size, dtype=torch.long)
    engine_, batch = engine(), micro_batch(temperature)
    mine = logits.clone().requires_grad_()
    args = {
        "labels": labels,
        "temperature": engine_._temperature(batch, Lengths.of(batch)),
        "of_padded": (torch.zeros(size, dtype=torch.long), torch.arange(size)),
    }
    output = SimpleNamespace(logits=mine[None])
    found = engine_.prepare_model_outputs(output, args, batch, None)["log_probs"]
    found = torch.cat([row[:-1] for row in found.unbind()])
    exact = logits.double().requires_grad_()
    by = torch.as_tensor(temperature).double().expand(2).repeat_interleave(torch.tensor(LENGTHS))
    wanted = (exact / by[:, None]).log_softmax(-1).gather(-1, labels[:, None])[:, 0]
    for values in (found, wanted):
        values.sum().backward()
    pairs = ((found, wanted), (mine.grad, exact.grad))
    return [((a.detach().double() - b.detach()) / b.detach()).mean().abs().item() for a, b in pairs]


@pytest.mark.parametrize("temperature", [0.6, 0.7, PER_ROW], ids=["0.6", "0.7", "one for each row"])
def test_the_temperature_is_not_rounded(temperature):
    of_values, of_gradient = errors(temperature)
    assert of_values < 3e-4  # with bfloat16's 0.6 or 0.7 2.6e-3, 1.1e-3
    assert of_gradient < 2**-8  # rounded once, the same value everywhere


def test_one_for_all_is_not_spread_over_the_rows():
    batch = micro_batch(0.6)
    assert engine()._temperature(batch, Lengths.of(batch)) == 0.6
