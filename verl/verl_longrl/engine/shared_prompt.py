"""verl's FSDP engine with each prompt computed once for all its responses, and logits only where responses are.

verl computes G (P + R) tokens for a prompt with G responses, and logits for all of them; this computes P + G R, and
logits for G R. Function and gradient are the same. So is what goes in and out: rows come in any order, and values leave
in it (see response_logits.py).
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
from verl_longrl.engine.packing import MicroBatch, groups, pack
from verl_longrl.engine.response_logits import Lengths, ResponseLogitsEngine
from verl_longrl.engine.supported import model_problems
from verl_longrl.patching import patched_attribute

ATTENTION = "longrl_shared_prompt"
SHARED = "longrl_shared_prompt_groups"
SHARING = "prompt_sharing"
"""Metric: tokens of the rows one by one, over the tokens computed."""


def attention(
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
    """transformers' attention interface: (1, H, T, D) to (1, T, H, D). With sequence parallelism, T is this rank's part
    of the row (sequence_sharding.py), and heads are exchanged for tokens before, tokens for heads after (Ulysses, arXiv
    2309.14509)."""
    if shared_prompt is None:
        raise ValueError(f"attention {ATTENTION} is for packed rows alone; expected their layout as shared_prompt=")
    kind, ranks, tokens = query.device.type, get_ulysses_sequence_parallel_world_size(), shared_prompt.tokens
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if ranks > 1:
        copies = max(ranks // key.shape[1], 1)  # at least one key-value head for each rank
        parts = (query, repeat_kv(key, copies), repeat_kv(value, copies))
        query, key, value = (gather_seq_scatter_heads(x.to(dtype), seq_dim=2, head_dim=1) for x in parts)
    q_THD, k_TKD, v_TKD = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    if ranks == 1:
        return attend(q_THD, k_TKD, v_TKD, shared_prompt, scale)[None], None
    q_THD, k_TKD, v_TKD = (sequence_sharding.row(x, ranks, tokens) for x in (q_THD, k_TKD, v_TKD))
    out = sequence_sharding.parts(attend(q_THD, k_TKD, v_TKD, shared_prompt, scale), ranks)
    return gather_heads_scatter_seq(out[None], head_dim=2, seq_dim=1), None


class SharedPromptEngine(ResponseLogitsEngine):
    """A language model's engine, for FSDP2."""

    def _build_module(self) -> Any:
        problems = model_problems(self.model_config.hf_config)
        if problems:
            raise ValueError(
                f"longrl.engine = shared_prompt is not exact for this model: {'; '.join(problems)}. Set "
                "longrl.engine=response_logits"
            )
        ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attention)
        module = super()._build_module()
        module.config._attn_implementation = ATTENTION
        return module

    def forward_backward_batch(self, data: TensorDict, loss_function: Any, forward_only: bool = False) -> Any:
        tu.assign_non_tensor(data, use_dynamic_bsz=True)  # verl then puts rows back into their order
        with patched_attribute(transformer_impl, "prepare_micro_batches", self._micro_batches):
            output: Any = super().forward_backward_batch(data, loss_function, forward_only)
        output["metrics"][SHARING] = [self._sharing]
        return output

    def _micro_batches(
        self, data: TensorDict, dp_group: Any = None, **unused: Any
    ) -> tuple[list[TensorDict], list[list[int]]]:
        """The micro-batches of a batch, and the rows of each: as many on each rank, or their collectives would not
        meet."""
        lengths = Lengths.of(data)
        prompts = [prompt.cpu().numpy().tobytes() for prompt in data["prompts"].unbind()]
        found = groups(prompts, lengths.prompts.tolist(), lengths.responses.tolist())
        budget = int(data["max_token_len_per_gpu"]) * self.ulysses_sequence_parallel_size
        packed = pack(found, budget)
        most = torch.tensor(len(packed), device=get_device_name())  # a group may have the accelerator's backend alone
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX, group=dp_group)
        if len(packed) < most.item():
            packed = pack(found, budget, at_least=int(most.item()))
        self._sharing = _total(packed, "unshared") / _total(packed, "tokens")
        rows = [[row for group in batch for row in group.rows] for batch in packed]
        return [_micro_batch(data, batch, of) for batch, of in zip(packed, rows, strict=True)], rows

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        ids, starts = micro_batch["input_ids"].values(), micro_batch["input_ids"].offsets().tolist()
        shared = [Group(*group) for group in tu.get_non_tensor_data(micro_batch, SHARED, None)]
        layout, pieces, rows = Layout(shared, ids.device), [], iter(starts)
        for prompt, responses in shared:
            for number, length in enumerate(responses):
                start = next(rows)
                if number == 0:
                    pieces.append(ids[start : start + prompt])
                pieces.append(ids[start + prompt : start + prompt + length])
        packed = torch.cat(pieces)
        ranks, rank, positions = self.ulysses_sequence_parallel_size, self._sequence_rank, layout.predictors
        kept = self._kept(positions % ranks, positions // ranks)
        inputs = {
            "input_ids": sequence_sharding.part(packed, ranks, rank)[None],
            "attention_mask": None,
            "position_ids": sequence_sharding.part(layout.position_ids, ranks, rank)[None],
            "shared_prompt": layout,
            "logits_to_keep": kept.local,
        }
        temperature = self._temperature(micro_batch, Lengths.of(micro_batch))
        return inputs, {"labels": packed[layout.responses], "temperature": temperature, "kept": kept}


def _micro_batch(data: TensorDict, batch: MicroBatch, rows: list[int]) -> TensorDict:
    part = tu.index_select_tensor_dict(data, rows)
    tu.assign_non_tensor(part, **{SHARED: tuple((group.prompt, group.responses) for group in batch)})
    return part


def _total(packed: list[MicroBatch], what: str) -> int:
    return sum(getattr(group, what) for batch in packed for group in batch)
