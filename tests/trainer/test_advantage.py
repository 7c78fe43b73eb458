"""Advantages by task reach their rows: padding rows get none, earlier outputs of a session its last one's."""

from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf
from verl_longrl.trainer.advantage import AdvantageOptions, Advantages, task_advantages
from verl_longrl.trainer.tmn import tmn_advantages


def test_a_task_is_normalised_as_a_whole():
    rewards, tasks = [0.0, 1.0, 0.5, 0.7, 9.0], ["a", "a", "a", "b", "c"]
    found = task_advantages(rewards, tasks, epsilon=1e-12)
    np.testing.assert_allclose(found, [-1, 1, 0, 0, 0], atol=1e-9)


def test_options_out_of_range_are_named():
    for options in ({"estimator": "tnm"}, {"alpha": 2.0}, {"epsilon": 0.0}, {"decay": 1.0}, {"clip": 0.5}):
        with pytest.raises(ValueError, match=f"longrl.advantage.{next(iter(options))} = "):
            AdvantageOptions.from_dict(options, "longrl.advantage.")


def test_scales_are_remembered_over_batches_and_checkpoints():
    options = AdvantageOptions(estimator="tmn", decay=0.5)
    first = Advantages(options)
    first([0, 2], ["x", "x"], ["a", "a"])  # variance 2
    again = Advantages(options)
    again.load_state_dict(first.state_dict())
    rewards = ([0.0, 1.0], ["y", "y"], ["a", "a"])  # variance 0.5, on average 1.25
    np.testing.assert_allclose(again(*rewards), [-0.5 / 1.25**0.5, 0.5 / 1.25**0.5], rtol=1e-5)
    np.testing.assert_array_equal(first(*rewards), _loaded(options, {"a": 2.0})(*rewards))


def _loaded(options, variances):
    advantages = Advantages(options)
    advantages.load_state_dict({"scale": variances})
    return advantages


@pytest.mark.engine
def test_rows_of_a_batch(monkeypatch):
    """As verl has them: reordered, with a padding row, and a session of two outputs of which the last is scored."""
    import torch
    from verl.trainer.ppo.v1 import trainer_base
    from verl_longrl.trainer import trainer as module
    from verl_longrl.trainer import transfer_queue_rows
    from verl_longrl.trainer.step_state import StepState

    real = ["p_0_0", "p_0_1", "p_1_0", "q_0_0", "q_1_0"]
    lengths = {"p_0_0": 2, "p_0_1": 3, "p_1_0": 1, "q_0_0": 4, "q_1_0": 2, "pad_0_0": 2}
    rewards = {"p_0_0": 0.0, "p_0_1": 1.0, "p_1_0": 0.0, "q_0_0": 0.25, "q_1_0": 0.75, "pad_0_0": 0.0}
    order = ["q_1_0", "pad_0_0", "p_0_1", "p_0_0", "q_0_0", "p_1_0"]
    stored = {}

    def nested(rows):
        return torch.nested.as_nested_tensor(rows, layout=torch.jagged)

    def get(keys, partition_id, select_fields):
        assert keys == order
        scores = [torch.zeros(lengths[key]) for key in keys]
        for row, key in zip(scores, keys, strict=True):
            row[-1] = rewards[key]
        mask = [torch.ones(lengths[key], dtype=torch.long) for key in keys]
        mask[order.index("q_0_0")][0] = 0  # a token the model did not write
        return {"rm_scores": nested(scores), "response_mask": nested(mask)}

    def put(keys, partition_id, fields):
        stored.update(fields.items())
        return "batch"

    monkeypatch.setattr(transfer_queue_rows.tq, "kv_batch_get", get)
    monkeypatch.setattr(transfer_queue_rows.tq, "kv_batch_put", put)
    monkeypatch.setattr(trainer_base.PPOTrainer, "_compute_advantage", lambda self, batch, metrics: batch)
    one = object.__new__(module.LongRLTrainer)
    one.config = OmegaConf.create({"algorithm": {"use_kl_in_reward": False}})
    one.longrl = SimpleNamespace(advantage=AdvantageOptions(estimator="tmn"))
    one.advantages = Advantages(one.longrl.advantage)
    one.step_state = StepState(keys=real, scores=[{"task": "a" if key[0] == "p" else "b"} for key in real])

    class Batch(SimpleNamespace):
        def __len__(self):
            return len(self.keys)

    assert one._compute_advantage(Batch(keys=order, partition_id="train"), {}) == "batch"
    p, _, q, last = tmn_advantages([1.0, 0.0, 0.25, 0.75], list("ppqq"), list("aabb"))
    assert (p, q) == (-_, -last)
    expected = {"p_0_0": p, "p_0_1": p, "p_1_0": -p, "q_0_0": q, "q_1_0": -q, "pad_0_0": 0.0}
    for key, row in zip(order, stored["advantages"].unbind(), strict=True):
        masked = [0.0] * (key == "q_0_0")
        wanted = masked + [expected[key]] * (lengths[key] - len(masked))
        torch.testing.assert_close(row, torch.tensor(wanted, dtype=torch.float32))
    torch.testing.assert_close(stored["returns"].values(), stored["advantages"].values())
