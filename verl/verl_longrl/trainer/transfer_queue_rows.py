"""Reads and writes of a batch's rows in TransferQueue: our advantages in place of verl's, the rollouts to be logged,
and a query for metrics that leaves out prompts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.metric_utils import get_metric_data_with_optional_routed_experts

from verl_longrl.trainer.advantage import Advantages, spread_over_tokens
from verl_longrl.trainer.rollout_key import RolloutKey
from verl_longrl.trainer.rollout_log import LoggedPrompt, LoggedRollouts
from verl_longrl.trainer.step_state import Scores


def put_advantages(
    batch: KVBatchMeta, advantages: Advantages, task_of: Mapping[str, str], reward_field: str
) -> KVBatchMeta:
    """Replace the advantages of a batch.

    task_of: key -> task of each row that is not padding. reward_field: the field whose sum over a row's tokens is its
    reward.
    """
    tasks = {RolloutKey.parse(key): task for key, task in task_of.items()}
    keys = [RolloutKey.parse(key) for key in batch.keys]
    data = tq.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=[reward_field, "response_mask"]
    )
    rewards = {key: float(row.sum()) for key, row in zip(keys, data[reward_field].unbind(), strict=True)}
    # Padding rows have no task, so they are left out here and get advantage 0 below.
    rewarded = _last_outputs(tasks)
    values = advantages(
        [rewards[key] for key in rewarded], [key.uid for key in rewarded], [tasks[key] for key in rewarded]
    )
    advantage_of = {key.rollout: value for key, value in zip(rewarded, values.tolist(), strict=True)}
    rows = spread_over_tokens(advantage_of, keys, data["response_mask"].unbind())
    # Without a critic, returns are the advantages, as in verl's GRPO.
    nested = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    fields = TensorDict({"advantages": nested, "returns": nested.clone()}, batch_size=len(batch))
    return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def fetch_scores(partition_id: str, keys: list[str]) -> Scores:
    """The flat score dictionary of each row."""
    fields = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["extra_fields"])
    return [row["reward_extra_info"] for row in list(fields["extra_fields"])]


def fetch_rollouts(
    partition_id: str, tags: Mapping[str, Mapping[str, Any]], scores: Scores, trained: bool
) -> LoggedRollouts:
    """The responses of these rows with what was measured of them, and each of their prompts once.

    tags: key -> the row's tag. scores: one for each key. trained: rows have log-probs of the trainer and advantages.
    """
    keys = list(tags)
    parsed = [RolloutKey.parse(key) for key in keys]
    first_key_of: dict[str, str] = {}
    for key, parts in zip(keys, parsed, strict=True):
        # All rows of a prompt have the same prompt fields, so one row of each is fetched.
        first_key_of.setdefault(parts.uid, key)
    fields = ["prompts", "reward_model", "extra_info"]
    about = tq.kv_batch_get(keys=list(first_key_of.values()), partition_id=partition_id, select_fields=fields)
    tokens, truths, infos = about["prompts"].unbind(), list(about["reward_model"]), list(about["extra_info"])
    prompts: dict[str, LoggedPrompt] = {}
    for uid, prompt, truth, info in zip(first_key_of, tokens, truths, infos, strict=True):
        prompts[uid] = LoggedPrompt(prompt, truth, info)
    # TransferQueue leaves out fields that no row has, such as the log-probs of rollouts if vLLM does not return them.
    fields = ["responses", "metrics", *(MEASURED_PER_TOKEN if trained else ())]
    rows = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=fields)
    measured = [{"weights_step": tag.get("min_global_steps")} for tag in tags.values()]
    for one, values in zip(measured, _measure(rows, len(keys)), strict=True):
        one |= values
    return LoggedRollouts(prompts, parsed, rows["responses"].unbind(), scores, measured)


MEASURED_PER_TOKEN = ("response_mask", "advantages", "rollout_log_probs", "old_log_probs")
"""Fields with a number for each token of a response, of which a rollout's means are logged."""


def _measure(rows: Any, count: int) -> list[dict[str, Any]]:
    """For each rollout, as far as rows have them:

    - advantage: its mean over the tokens of the model. GRPO and its relatives give all tokens the same.
    - logprob_gap: mean absolute difference of log-probs between rollout and trainer, in nats.
    - seconds: of generation, including the wait for a free slot. scoring_seconds: of the reward, including a judge.
    """
    measured: list[dict[str, Any]] = [{} for _ in range(count)]
    names = {*rows.keys()}
    columns = {name: rows[name].unbind() for name in MEASURED_PER_TOKEN if name in names}
    if "response_mask" in columns:
        masks = [mask.bool() for mask in columns["response_mask"]]
        for one, mask, values in zip(measured, masks, columns.get("advantages", ()), strict=False):
            one["advantage"] = _mean(values[mask])
        pairs = zip(columns.get("rollout_log_probs", ()), columns.get("old_log_probs", ()), strict=False)
        for one, mask, (sampled, trained) in zip(measured, masks, pairs, strict=False):
            one["logprob_gap"] = _mean((sampled.float() - trained.float())[mask].abs())
    if "metrics" in names:
        for one, timing in zip(measured, list(rows["metrics"]), strict=True):
            one["seconds"], one["scoring_seconds"] = timing.get("generate_sequences"), timing.get("compute_score")
    return measured


def _mean(values: torch.Tensor) -> float | None:
    return float(values.float().mean()) if values.numel() else None


def metric_data(batch: KVBatchMeta) -> Callable[..., TensorDict]:
    """verl's query for the data of a step's metrics, without the tokens of the prompts.

    verl fetches the prompt of each rollout and uses only its length, which the tags have as well.
    """

    def query(*, fields: list[str], **others: Any) -> TensorDict:
        data = get_metric_data_with_optional_routed_experts(fields=[f for f in fields if f != "prompts"], **others)
        # verl reads only the lengths of these zeros.
        lengths = [torch.zeros(tag["prompt_len"], dtype=torch.uint8) for tag in batch.tags]
        data["prompts"] = torch.nested.as_nested_tensor(lengths, layout=torch.jagged)
        return data

    return query


def _last_outputs(keys: Iterable[RolloutKey]) -> list[RolloutKey]:
    """The last output of each rollout, which is the one that has the reward."""
    last: dict[tuple[str, int], RolloutKey] = {}
    for key in keys:
        if key.rollout not in last or key.output > last[key.rollout].output:
            last[key.rollout] = key
    return list(last.values())
