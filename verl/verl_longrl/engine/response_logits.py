"""verl's FSDP engine with logits only at the tokens that predict responses.

verl computes logits, and from them log-probabilities, for all P + R tokens of a sequence, although no loss reads those
of the prompt. Everything else in the forward pass is verl's, including its micro-batches. Inputs and outputs are the
same, with two exceptions: values of prompt tokens are 0; and in a pass without a loss (old and reference
log-probabilities), whose values travel through the driver, a row has R + 1 values instead of P + R.

Shapes: B rows of a micro-batch, N their response tokens, M of these on one rank of sequence parallelism, V vocabulary
entries.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from verl.utils import tensordict_utils as tu
from verl.utils.ulysses import gather_outputs_and_unpad
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from verl_longrl.engine.log_probs import compute_log_probs
from verl_longrl.engine.sequence_sharding import LogitShard, shard_logits
from verl_longrl.engine.temperature import divide_by_temperature


class RowLengths(NamedTuple):
    """(B,) each: tokens of the prompt and of the response of each row in a micro-batch."""

    prompts: Tensor
    responses: Tensor

    @classmethod
    def of(cls, micro_batch: TensorDict) -> RowLengths:
        prompts = micro_batch["prompts"].offsets().diff()
        return cls(prompts, micro_batch["input_ids"].offsets().diff() - prompts)

    @property
    def row_indices(self) -> Tensor:
        """(N,): the row of each response token."""
        return torch.arange(len(self.prompts), device=self.prompts.device).repeat_interleave(self.responses)

    @property
    def response_positions(self) -> Tensor:
        """(N,): the position of each response token in its response."""
        before = self.responses.cumsum(0) - self.responses
        return torch.arange(int(self.responses.sum()), device=before.device) - before[self.row_indices]

    @property
    def predictor_positions(self) -> Tensor:
        """(N,): the position, in its row, of the token before each response token, whose logits predict it."""
        return self.response_positions + (self.prompts - 1)[self.row_indices]


class ResponseLogitsEngine(FSDPEngineWithLMHead):
    """An engine for FSDP2, with or without padding, with Ulysses sequence parallelism. See the module's docstring."""

    def _build_module(self) -> Any:
        module = super()._build_module()
        if "logits_to_keep" not in inspect.signature(module.forward).parameters:
            raise TypeError(
                f"{type(module).__name__}.forward has no argument logits_to_keep, which longrl.engine = "
                "response_logits and shared_prompt need. Fix: set longrl.engine=upstream"
            )
        return module

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, _ = super().prepare_model_inputs(micro_batch)
        lengths, rows = RowLengths.of(micro_batch), micro_batch["input_ids"]
        row_starts = rows.offsets()[:-1]
        # Indices into the rows of the micro-batch one after another, without padding.
        predictors_N = row_starts[lengths.row_indices] + lengths.predictor_positions
        args = {"labels": rows.values()[predictors_N + 1], "temperature": self._temperature(micro_batch, lengths)}
        if self.use_remove_padding:
            # verl puts all rows into one and gives each rank of sequence parallelism a contiguous part of this width.
            width = inputs["input_ids"].shape[-1]
            args["logit_shard"] = self._shard_logits(predictors_N // width, predictors_N % width)
            inputs["logits_to_keep"] = args["logit_shard"].local_indices
        else:
            # In a padded batch logits_to_keep selects columns, the same ones for all rows.
            first, last = int(lengths.predictor_positions.min()), int(lengths.predictor_positions.max())
            inputs["logits_to_keep"] = torch.arange(first, last + 1, device=predictors_N.device)
            args["padded_indices"] = (lengths.row_indices, lengths.predictor_positions - first)
        return inputs, args

    @property
    def _sequence_rank(self) -> int:
        """This rank's index among the ranks that share its rows."""
        return torch.distributed.get_rank(self.ulysses_parallel_group) if self.use_ulysses_sp else 0

    def _shard_logits(self, rank_N: Tensor, local_N: Tensor) -> LogitShard:
        return shard_logits(rank_N, local_N, self.ulysses_sequence_parallel_size, self._sequence_rank)

    def _temperature(self, micro_batch: TensorDict, lengths: RowLengths) -> Tensor | float:
        """One temperature for all tokens, or (N,) in float32."""
        temperature = micro_batch["temperature"]
        if isinstance(temperature, Tensor):
            # A temperature of 0 (greedy) would divide by zero, so both branches have verl's lower bound.
            temperature_B = temperature.to(lengths.prompts.device, torch.float32).clamp(min=1e-8)
            return temperature_B[lengths.row_indices]
        return max(float(temperature), 1e-8)

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        labels_M, temperature, shard = output_args["labels"], output_args["temperature"], output_args.get("logit_shard")
        if shard is None:
            logits_MV = output.logits[output_args["padded_indices"]]
        else:
            # The model has computed just the logits that logits_to_keep named, of one packed row.
            logits_MV, labels_M = output.logits[0], labels_M[shard.logit_indices]
            temperature = temperature[shard.logit_indices] if isinstance(temperature, Tensor) else temperature
        logits_MV = divide_by_temperature(logits_MV, temperature)
        with_entropy = tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False)
        values = {"entropy": self._entropy(logits_MV)} if with_entropy else {}
        # The entropy's backward pass reads the logits, so with it the gradient must not overwrite them.
        values["log_probs"] = compute_log_probs(logits_MV, labels_M, in_place=not with_entropy)
        if self.use_ulysses_sp:
            # verl rejects sequence parallelism with padding.
            assert shard is not None
            for name, value_M in values.items():
                values[name] = gather_outputs_and_unpad(value_M, gather_dim=0)[shard.gathered_indices]
        whole_rows, lengths = logits_processor_func is not None, RowLengths.of(micro_batch)
        return {name: _nest_by_row(value_N, lengths, whole_rows) for name, value_N in values.items()}

    def _entropy(self, logits_MV: Tensor) -> Tensor:
        """(M,): checkpointed, in chunks, or at once, depending on the engine's options."""
        options = self.engine_config
        if options.entropy_checkpointing:
            return checkpoint(self.compute_entropy_from_logits, logits_MV, use_reentrant=False)
        if options.entropy_from_logits_with_chunking:
            return self.compute_entropy_from_logits(logits_MV, chunk_size=options.entropy_from_logits_chunk_size)
        return self.compute_entropy_from_logits(logits_MV)


def _nest_by_row(value_N: Tensor, lengths: RowLengths, whole_rows: bool) -> Tensor:
    """Values of response tokens as a jagged nested tensor of B rows, where verl expects them: one token earlier.

    whole_rows: rows of P + R values, which losses expect. Otherwise rows of R + 1 values, since verl reads only those.
    """
    # A prompt of 3 and a response of 2 tokens give a row of 5 values, of which 2 and 3 are set, or of 3 values, of
    # which 0 and 1 are set.
    sizes = lengths.responses + (lengths.prompts if whole_rows else 1)
    offsets = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
    positions = lengths.predictor_positions if whole_rows else lengths.response_positions
    indices_N = offsets[lengths.row_indices] + positions
    values = value_N.new_zeros(int(offsets[-1])).index_put((indices_N,), value_N)
    return torch.nested.nested_tensor_from_jagged(values, offsets)
