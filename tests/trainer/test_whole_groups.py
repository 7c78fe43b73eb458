"""The trainer's side of whole groups, with real batch metadata: the order, and metrics without n copies of prompts."""

import pytest
import torch
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl_longrl.trainer import transfer_queue_rows as module
from verl_longrl.trainer.group_balancing import keep_groups_together

pytestmark = pytest.mark.engine


def batch(prompts, rollouts, padding=0):
    """Rows in the order in which rollouts finish: each prompt's are spread."""
    rows = [(f"u{p}_{r}_0", 100 * (p + 1), 10 + r, False) for r in range(rollouts) for p in range(prompts)]
    rows += [(f"pad{number}_0_0", 127, 1, True) for number in range(padding)]
    tags = [
        {"prompt_len": prompt, "response_len": response, "seq_len": prompt + response, "is_padding": fills}
        for _, prompt, response, fills in rows
    ]
    return KVBatchMeta(keys=[row[0] for row in rows], tags=tags, partition_id="train")


def ordered(rows, ranks, mini_batch_size, rollouts):
    return keep_groups_together(rows, ranks, mini_batch_size * rollouts)


def test_ranks_and_mini_batches_get_whole_groups():
    rows = batch(prompts=8, rollouts=4)
    metrics = ordered(rows, ranks=2, mini_batch_size=4, rollouts=4)
    for part in range(4):  # two mini-batches of 4 prompts on two ranks
        uids = [key.split("_")[0] for key in rows.keys[part * 8 : part * 8 + 8]]
        assert sorted(uids.count(uid) for uid in set(uids)) == [4, 4]
    for key, tag in zip(rows.keys, rows.tags, strict=True):
        assert tag["prompt_len"] == 100 * (int(key[1]) + 1)  # tags follow their keys
    assert metrics["global_seqlen/balanced_max"] >= metrics["global_seqlen/balanced_min"] > 0


def test_a_batch_that_mini_batches_do_not_divide_is_dealt_as_one():
    rows = batch(prompts=3, rollouts=4, padding=4)
    ordered(rows, ranks=2, mini_batch_size=3, rollouts=4)
    for half in (rows.tags[:8], rows.tags[8:]):
        fills = [tag["is_padding"] for tag in half]
        assert fills == sorted(fills)


def test_metrics_ask_for_no_prompts(monkeypatch):
    asked = []

    def query(*, fields, **others):
        asked.append((fields, others))
        return TensorDict({"responses": torch.zeros(8, 1)}, batch_size=8)

    monkeypatch.setattr(module, "get_metric_data_with_optional_routed_experts", query)
    rows = batch(prompts=2, rollouts=4)
    data = module.metric_data(rows)(fields=["prompts", "responses"], keys=rows.keys)
    assert asked == [(["responses"], {"keys": rows.keys})]
    assert data["prompts"].offsets().diff().tolist() == [tag["prompt_len"] for tag in rows.tags]
    assert data["prompts"].values().element_size() == 1
