"""verl's FSDP engine with each prompt computed once for all its responses, and logits only where responses are.

Upstream computes G (P + R) tokens for a prompt with G responses, and logits for all of them; this computes P + G R, and
logits for G R. Function and gradient are the same. So is what goes in and out: rows come in any order, and values leave
in it, as long as the rows; those of prompt tokens, which no loss reads, are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from verl.utils import tensordict_utils as tu
from verl.utils.torch_functional import logprobs_from_logits
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from verl_longrl.engine.attention import attend
from verl_longrl.engine.layout import Group, Layout
from verl_longrl.engine.packing import MicroBatch, groups, pack

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
    """transformers' attention interface: (1, H, T, D) to (1, T, H, D)."""
    if shared_prompt is None:
        raise ValueError(f"attention {ATTENTION} is for packed rows alone; expected their layout as shared_prompt=")
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    q_THD, k_TKD, v_TKD = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(q_THD, k_TKD, v_TKD, shared_prompt, scale)[None], None


class SharedPromptEngine(FSDPEngineWithLMHead):
    """A language model's engine, for FSDP2 and FSDP."""

    def _build_module(self) -> Any:
        ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attention)
        module = super()._build_module()
        module.config._attn_implementation = ATTENTION
        return module

    def forward_backward_batch(self, data: TensorDict, loss_function: Any, forward_only: bool = False) -> Any:
        tu.assign_non_tensor(data, use_dynamic_bsz=True)  # upstream then puts rows back into their order
        with _micro_batches_from(self._micro_batches):
            output: Any = super().forward_backward_batch(data, loss_function, forward_only)
        output["metrics"][SHARING] = [self._sharing]
        return output

    def _micro_batches(
        self, data: TensorDict, dp_group: Any = None, **unused: Any
    ) -> tuple[list[TensorDict], list[list[int]]]:
        """The micro-batches of a batch, and the rows of each: as many on each rank, or their collectives would not
        meet."""
        prompts = [prompt.cpu() for prompt in data["prompts"].unbind()]
        lengths = [len(prompt) for prompt in prompts]
        totals = data["input_ids"].offsets().diff().tolist()
        found = groups(
            [prompt.numpy().tobytes() for prompt in prompts],
            lengths,
            [total - length for total, length in zip(totals, lengths, strict=True)],
        )
        budget = int(data["max_token_len_per_gpu"])
        packed = pack(found, budget)
        most = torch.tensor(len(packed), device=data["input_ids"].device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX, group=dp_group)
        if len(packed) < most.item():
            packed = pack(found, budget, at_least=int(most.item()))
        self._sharing = _total(packed, "unshared") / _total(packed, "tokens")
        rows = [[row for group in batch for row in group.rows] for batch in packed]
        return [_micro_batch(data, batch, of) for batch, of in zip(packed, rows, strict=True)], rows

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        ids, starts = micro_batch["input_ids"].values(), micro_batch["input_ids"].offsets().tolist()
        shared = [Group(*group) for group in tu.get_non_tensor_data(micro_batch, SHARED, None)]
        layout = Layout(shared, ids.device)
        pieces: list[Tensor] = []
        places: list[Tensor] = []
        rows = iter(starts)
        for prompt, responses in shared:
            for number, length in enumerate(responses):
                start = next(rows)
                if number == 0:
                    pieces.append(ids[start : start + prompt])
                pieces.append(ids[start + prompt : start + prompt + length])
                places.append(torch.arange(start + prompt - 1, start + prompt - 1 + length, device=ids.device))
        packed = torch.cat(pieces)
        inputs = {
            "input_ids": packed[None],
            "attention_mask": None,
            "position_ids": layout.position_ids[None],
            "shared_prompt": layout,
            "logits_to_keep": layout.predictors,
        }
        lengths = torch.tensor([length for group in shared for length in group.responses], device=ids.device)
        temperature = micro_batch["temperature"]
        if isinstance(temperature, Tensor):  # one for each row
            temperature = temperature.to(ids.device, torch.float32).repeat_interleave(lengths)[:, None]
        return inputs, {"labels": packed[layout.responses], "places": torch.cat(places), "temperature": temperature}

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        logits_NV = output.logits[0] / output_args["temperature"]
        wants_entropy = tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False)
        found = {"entropy": self._entropy(logits_NV)} if wants_entropy else {}
        found["log_probs"] = logprobs_from_logits(logits_NV, output_args["labels"], inplace_backward=not wants_entropy)
        return {name: _in_rows(value, output_args["places"], micro_batch["input_ids"]) for name, value in found.items()}

    def _entropy(self, logits_NV: Tensor) -> Tensor:
        """(N,), as the engine's options say: checkpointed, in chunks, or at once."""
        options = self.engine_config
        if options.entropy_checkpointing:
            return torch.utils.checkpoint.checkpoint(self.compute_entropy_from_logits, logits_NV, use_reentrant=False)
        if options.entropy_from_logits_with_chunking:
            return self.compute_entropy_from_logits(logits_NV, chunk_size=options.entropy_from_logits_chunk_size)
        return self.compute_entropy_from_logits(logits_NV)


def _micro_batch(data: TensorDict, batch: MicroBatch, rows: list[int]) -> TensorDict:
    part = tu.index_select_tensor_dict(data, rows)
    tu.assign_non_tensor(part, **{SHARED: tuple((group.prompt, group.responses) for group in batch)})
    return part


def _in_rows(value_N: Tensor, places_N: Tensor, input_ids: Any) -> Tensor:
    """Values of response tokens as nested, as long as the rows, each where upstream has it, one token before."""
    spread = value_N.new_zeros(input_ids.values().shape[0]).index_put((places_N,), value_N)
    return torch.nested.nested_tensor_from_jagged(spread, input_ids.offsets())


def _total(packed: list[MicroBatch], what: str) -> int:
    return sum(getattr(group, what) for batch in packed for group in batch)


@contextmanager
def _micro_batches_from(function: Callable[..., Any]) -> Iterator[None]:
    """Have upstream's `forward_backward_batch` divide its batch by `function`; it calls one of its own module."""
    upstream = transformer_impl.prepare_micro_batches
    transformer_impl.prepare_micro_batches = function
    try:
        yield
    finally:
        transformer_impl.prepare_micro_batches = upstream
