"""verl's FSDP engine with each prompt computed once for all its responses, and logits only at responses.

For a prompt with G responses verl computes G (P + R) tokens, and logits for all of them. This engine computes P + G R
tokens, and logits for G R. The function and its gradient are the same, and so are inputs and outputs: rows arrive in
any order, and values are returned in that order (see response_logits.py).

Shapes: T tokens of a packed row, H query heads, K key-value heads, D the head size.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_name
from verl.utils.ulysses import (
    gather_heads_scatter_seq,
    gather_seq_scatter_heads,
    get_ulysses_sequence_parallel_world_size,
)
from verl.workers.engine.fsdp import transformer_impl

from verl_longrl.engine import sequence_sharding
from verl_longrl.engine.attention import attend
from verl_longrl.engine.layout import Group, Layout
from verl_longrl.engine.packing import MicroBatch, group_by_prompt, pack_groups
from verl_longrl.engine.response_logits import ResponseLogitsEngine, RowLengths
from verl_longrl.engine.supported import unsupported_model_reasons
from verl_longrl.patching import patched_attribute

ATTENTION = "longrl_shared_prompt"
"""The name under which transformers knows our attention."""

GROUPS_KEY = "longrl_shared_prompt_groups"
"""The entry of a micro-batch that holds the lengths of its groups."""

SHARING_METRIC = "prompt_sharing"
"""Tokens of the rows as separate sequences, divided by the tokens computed."""


def shared_prompt_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prompt: Layout | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """(1, T, H, D), from queries (1, H, T, D) and keys and values (1, K, T, D): transformers' attention interface.

    With sequence parallelism over S ranks, the inputs are this rank's shard of the row (sequence_sharding.py), T / S
    tokens of all heads. An all-to-all exchange makes them T tokens of H / S heads, and another one after the attention
    undoes it (Ulysses, arXiv 2309.14509).
    """
    if shared_prompt is None:
        raise ValueError(f"attention {ATTENTION} needs a packed row; expected its layout as shared_prompt=")
    device, ranks, tokens = query.device.type, get_ulysses_sequence_parallel_world_size(), shared_prompt.tokens
    # Autocast casts the inputs of torch's own attention, but not those of a custom function.
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if ranks > 1:
        # Each rank needs at least one key-value head.
        # 2 key-value heads on 8 ranks are repeated 4 times, so that each rank has one.
        copies = max(ranks // key.shape[1], 1)
        shards = (query, repeat_kv(key, copies), repeat_kv(value, copies))
        query, key, value = (gather_seq_scatter_heads(x.to(dtype), seq_dim=2, head_dim=1) for x in shards)
    q_THD, k_TKD, v_TKD = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    if ranks == 1:
        return attend(q_THD, k_TKD, v_TKD, shared_prompt, scale)[None], None
    # Here the tokens are in the order of the shards. Attention needs them in the order of the row.
    q_THD, k_TKD, v_TKD = (sequence_sharding.unshard(x, ranks, tokens) for x in (q_THD, k_TKD, v_TKD))
    out_THD = sequence_sharding.all_shards(attend(q_THD, k_TKD, v_TKD, shared_prompt, scale), ranks)
    return gather_heads_scatter_seq(out_THD[None], head_dim=2, seq_dim=1), None


class SharedPromptEngine(ResponseLogitsEngine):
    """A language model's engine for FSDP2. See the module's docstring."""

    def _build_module(self) -> Any:
        reasons = unsupported_model_reasons(self.model_config.hf_config)
        if reasons:
            raise ValueError(
                f"longrl.engine = shared_prompt: not exact for this model: {'; '.join(reasons)}. Fix: set "
                "longrl.engine=response_logits"
            )
        ALL_ATTENTION_FUNCTIONS.register(ATTENTION, shared_prompt_attention)
        module = super()._build_module()
        module.config._attn_implementation = ATTENTION
        return module

    def forward_backward_batch(self, data: TensorDict, loss_function: Any, forward_only: bool = False) -> Any:
        # With dynamic batches verl restores the order of the rows, by the indices that _micro_batches returns.
        tu.assign_non_tensor(data, use_dynamic_bsz=True)
        with patched_attribute(transformer_impl, "prepare_micro_batches", self._micro_batches):
            output: Any = super().forward_backward_batch(data, loss_function, forward_only)
        output["metrics"][SHARING_METRIC] = [self._sharing]
        return output

    def _micro_batches(
        self, data: TensorDict, dp_group: Any = None, **unused: Any
    ) -> tuple[list[TensorDict], list[list[int]]]:
        """The micro-batches of a batch, and the indices of the rows in each.

        All ranks make the same number of micro-batches; otherwise their collectives would wait for each other.
        """
        lengths = RowLengths.of(data)
        prompts = [prompt.cpu().numpy().tobytes() for prompt in data["prompts"].unbind()]
        groups = group_by_prompt(prompts, lengths.prompts.tolist(), lengths.responses.tolist())
        budget = int(data["max_token_len_per_gpu"]) * self.ulysses_sequence_parallel_size
        packed = pack_groups(groups, budget)
        # On the accelerator, because the group may have only its backend.
        most = torch.tensor(len(packed), device=get_device_name())
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX, group=dp_group)
        if len(packed) < most.item():
            packed = pack_groups(groups, budget, at_least=int(most.item()))
        # These are pieces of groups, so a prompt that was computed in two pieces counts twice.
        used_groups = [group for batch in packed for group in batch]
        self._sharing = sum(g.unshared_tokens for g in used_groups) / sum(g.tokens for g in used_groups)
        rows = [[row for group in batch for row in group.rows] for batch in packed]
        return [_select_micro_batch(data, *pair) for pair in zip(packed, rows, strict=True)], rows

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """(1, T / S) token and position ids of the packed row's shard on this rank."""
        groups = [Group(*group) for group in tu.get_non_tensor_data(micro_batch, GROUPS_KEY, None)]
        layout, packed_T = Layout(groups, micro_batch["input_ids"].device), _pack_rows(micro_batch, groups)
        ranks, rank = self.ulysses_sequence_parallel_size, self._sequence_rank
        # Token t of the row is token t // ranks of the shard of rank t % ranks (sequence_sharding.py).
        predictors_N = layout.predictor_indices
        logit_shard = self._shard_logits(predictors_N % ranks, predictors_N // ranks)
        inputs = {
            "input_ids": sequence_sharding.shard(packed_T, ranks, rank)[None],
            "attention_mask": None,
            "position_ids": sequence_sharding.shard(layout.position_ids, ranks, rank)[None],
            "shared_prompt": layout,
            "logits_to_keep": logit_shard.local_indices,
        }
        temperature = self._temperature(micro_batch, RowLengths.of(micro_batch))
        labels_N = packed_T[layout.response_indices]
        return inputs, {"labels": labels_N, "temperature": temperature, "logit_shard": logit_shard}


def _pack_rows(micro_batch: TensorDict, groups: list[Group]) -> Tensor:
    """(T,): the token ids of the packed row. The rows [prompt; response] are in the order of the groups' responses."""
    ids, starts = micro_batch["input_ids"].values(), iter(micro_batch["input_ids"].offsets().tolist())
    pieces = []
    for prompt, responses in groups:
        for number, length in enumerate(responses):
            start = next(starts)
            if number == 0:
                pieces.append(ids[start : start + prompt])
            pieces.append(ids[start + prompt : start + prompt + length])
    return torch.cat(pieces)


def _select_micro_batch(data: TensorDict, batch: MicroBatch, rows: list[int]) -> TensorDict:
    """Some rows of a batch, with the lengths of their groups."""
    selected = tu.index_select_tensor_dict(data, rows)
    tu.assign_non_tensor(selected, **{GROUPS_KEY: tuple((group.prompt, group.responses) for group in batch)})
    return selected
