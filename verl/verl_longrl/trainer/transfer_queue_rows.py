"""The rows of a batch as they lie in TransferQueue: our advantages in the place of verl's, and a lean query for
metrics."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.metric_utils import get_metric_data_with_optional_routed_experts

from verl_longrl.trainer.advantage import Advantages


def put_advantages(
    batch: KVBatchMeta, advantages: Advantages, task_of: Mapping[str, str], reward_field: str
) -> KVBatchMeta:
    """Replace the advantages of a batch. task_of: of each row, by key, that is no padding. reward_field: of the rows,
    whose sum over a row's tokens is its reward."""
    final = _final_outputs(list(task_of))
    uids = [key.rsplit("_", 2)[0] for key in final]
    data = tq.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=[reward_field, "response_mask"]
    )
    reward_of = {key: float(row.sum()) for key, row in zip(batch.keys, data[reward_field].unbind(), strict=True)}
    found = advantages([reward_of[key] for key in final], uids, [task_of[key] for key in final])
    advantage_of = {key.rsplit("_", 1)[0]: value for key, value in zip(final, found.tolist(), strict=True)}
    rows = [
        mask.float() * advantage_of.get(key.rsplit("_", 1)[0], 0.0)  # padding rows have none
        for key, mask in zip(batch.keys, data["response_mask"].unbind(), strict=True)
    ]
    nested = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    fields = TensorDict({"advantages": nested, "returns": nested.clone()}, batch_size=len(batch))
    return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def metric_data(batch: KVBatchMeta) -> Callable[..., TensorDict]:
    """verl's query for what a step's metrics are made of, without the tokens of n copies of each prompt, of which
    only the lengths are read."""

    def query(*, fields: list[str], **others: Any) -> TensorDict:
        data = get_metric_data_with_optional_routed_experts(fields=[f for f in fields if f != "prompts"], **others)
        lengths = [torch.zeros(tag["prompt_len"], dtype=torch.uint8) for tag in batch.tags]
        data["prompts"] = torch.nested.as_nested_tensor(lengths, layout=torch.jagged)
        return data

    return query


def _final_outputs(keys: list[str]) -> list[str]:
    """Of `{uid}_{session}_{output}` keys, each session's last: the one that is rewarded."""
    last: dict[str, tuple[int, str]] = {}
    for key in keys:
        session, _, output = key.rpartition("_")
        last[session] = max(last.get(session, (-1, "")), (int(output), key))
    return [key for _, key in last.values()]
