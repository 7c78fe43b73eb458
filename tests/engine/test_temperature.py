"""Log-probs of bfloat16 logits at a temperature that bfloat16 cannot represent, as the engine computes them."""

from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from verl_longrl.engine.response_logits import ResponseLogitsEngine, RowLengths

pytestmark = pytest.mark.engine
LENGTHS = (2000, 3000)
PER_ROW = torch.tensor([0.6, 0.7])


def engine_without_model():
    engine = object.__new__(ResponseLogitsEngine)
    engine.use_remove_padding = engine.use_ulysses_sp = False
    return engine


def micro_batch(temperature):
    nested = lambda sizes: torch.nested.as_nested_tensor(  # noqa: E731
        [torch.zeros(size, dtype=torch.long) for size in sizes], layout=torch.jagged
    )
    prompts = (3, 5)
    batch = TensorDict(
        {"prompts": nested(prompts), "input_ids": nested(map(sum, zip(prompts, LENGTHS, strict=True)))}, batch_size=2
    )
    if isinstance(temperature, torch.Tensor):
        batch["temperature"] = temperature
    else:
        batch.set_non_tensor("temperature", temperature)
    return batch


def errors(temperature):
    """The mean relative difference from float64, of log-probs from the same logits and of their gradient.

    The log-prob of the less likely of two words is nearly the difference of their logits divided by the temperature. A
    rounded temperature therefore biases all of them in one direction; later rounding to bfloat16 averages out.
    """
    size = sum(LENGTHS)
    logits = torch.zeros(size, 2, dtype=torch.bfloat16)
    logits[:, 0] = 8 + 24 * torch.rand(size, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(size, dtype=torch.long)
    engine, batch = engine_without_model(), micro_batch(temperature)
    inputs = logits.clone().requires_grad_()
    args = {
        "labels": labels,
        "temperature": engine._temperature(batch, RowLengths.of(batch)),
        "padded_indices": (torch.zeros(size, dtype=torch.long), torch.arange(size)),
    }
    output = SimpleNamespace(logits=inputs[None])
    log_probs = engine.prepare_model_outputs(output, args, batch, None)["log_probs"]
    log_probs = torch.cat([row[:-1] for row in log_probs.unbind()])
    exact = logits.double().requires_grad_()
    divisors = torch.as_tensor(temperature).double().expand(2).repeat_interleave(torch.tensor(LENGTHS))
    expected = (exact / divisors[:, None]).log_softmax(-1).gather(-1, labels[:, None])[:, 0]
    for values in (log_probs, expected):
        values.sum().backward()
    pairs = ((log_probs, expected), (inputs.grad, exact.grad))
    return [((a.detach().double() - b.detach()) / b.detach()).mean().abs().item() for a, b in pairs]


@pytest.mark.parametrize("temperature", [0.6, 0.7, PER_ROW], ids=["0.6", "0.7", "one for each row"])
def test_the_temperature_is_not_rounded(temperature):
    of_values, of_gradient = errors(temperature)
    assert of_values < 3e-4  # With a temperature rounded to bfloat16: 2.6e-3 for 0.6, 1.1e-3 for 0.7.
    assert of_gradient < 2**-8  # All values are rounded once, in the same direction.


def test_one_temperature_for_all_rows_stays_a_number():
    batch = micro_batch(0.6)
    assert engine_without_model()._temperature(batch, RowLengths.of(batch)) == 0.6
