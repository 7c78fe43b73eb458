"""verl's FSDP engine with logits at the tokens that predict responses, and nowhere else.

verl computes logits, and from them log-probabilities, for all P + R tokens of a sequence; no loss reads those of
the prompt. Otherwise the forward pass is verl's, with its micro-batches. What goes in and out is the same, up to
two things: values of prompt tokens are 0, and rows of a pass without a loss (old and reference log-probabilities),
which travel through the driver, are as long as their response and one more.

Shapes: B rows of a micro-batch, N response tokens of them, M of these on one rank of sequence parallelism, V words.
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

from verl_longrl.engine.log_probs import log_probs
from verl_longrl.engine.sequence_sharding import Kept, kept
from verl_longrl.engine.temperature import divided


class Lengths(NamedTuple):
    """Of each row of a micro-batch, (B,): tokens of its prompt and of its response."""

    prompts: Tensor
    responses: Tensor

    @classmethod
    def of(cls, micro_batch: TensorDict) -> Lengths:
        prompts = micro_batch["prompts"].offsets().diff()
        return cls(prompts, micro_batch["input_ids"].offsets().diff() - prompts)

    @property
    def rows(self) -> Tensor:
        """(N,): the row of each response token."""
        return torch.arange(len(self.prompts), device=self.prompts.device).repeat_interleave(self.responses)

    @property
    def within(self) -> Tensor:
        """(N,): its place in the response."""
        before = self.responses.cumsum(0) - self.responses
        return torch.arange(int(self.responses.sum()), device=before.device) - before[self.rows]

    @property
    def predictors(self) -> Tensor:
        """(N,): the token before it, in its row."""
        return self.within + (self.prompts - 1)[self.rows]


class ResponseLogitsEngine(FSDPEngineWithLMHead):
    """See the module's docstring. For FSDP2, with and without padding, with Ulysses sequence parallelism."""

    def _build_module(self) -> Any:
        module = super()._build_module()
        if "logits_to_keep" not in inspect.signature(module.forward).parameters:
            raise TypeError(
                f"{type(module).__name__}.forward has no logits_to_keep, so logits cannot be left out; set "
                "longrl.engine=upstream"
            )
        return module

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, _ = super().prepare_model_inputs(micro_batch)
        lengths, rows = Lengths.of(micro_batch), micro_batch["input_ids"]
        packed = rows.offsets()[:-1][lengths.rows] + lengths.predictors
        args = {"labels": rows.values()[packed + 1], "temperature": self._temperature(micro_batch, lengths)}
        if self.use_remove_padding:
            width = inputs["input_ids"].shape[-1]
            args["kept"] = self._kept(packed // width, packed % width)
            inputs["logits_to_keep"] = args["kept"].local
        else:
            first, last = int(lengths.predictors.min()), int(lengths.predictors.max())
            inputs["logits_to_keep"] = torch.arange(first, last + 1, device=packed.device)
            args["of_padded"] = (lengths.rows, lengths.predictors - first)
        return inputs, args

    @property
    def _sequence_rank(self) -> int:
        """This rank's place among those that share its rows."""
        return torch.distributed.get_rank(self.ulysses_parallel_group) if self.use_ulysses_sp else 0

    def _kept(self, owner_N: Tensor, local_N: Tensor) -> Kept:
        return kept(owner_N, local_N, self.ulysses_sequence_parallel_size, self._sequence_rank)

    def _temperature(self, micro_batch: TensorDict, lengths: Lengths) -> Tensor | float:
        """One for all, or (N,) float32."""
        temperature = micro_batch["temperature"]
        if isinstance(temperature, Tensor):  # one for each row
            return temperature.to(lengths.prompts.device, torch.float32).clamp(min=1e-8)[lengths.rows]
        return max(float(temperature), 1e-8)

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        labels, temperature, share = output_args["labels"], output_args["temperature"], output_args.get("kept")
        if share is None:
            logits_MV = output.logits[output_args["of_padded"]]
        else:
            logits_MV, labels = output.logits[0], labels[share.wanted]
            temperature = temperature[share.wanted] if isinstance(temperature, Tensor) else temperature
        logits_MV = divided(logits_MV, temperature)
        with_entropy = tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False)
        found = {"entropy": self._entropy(logits_MV)} if with_entropy else {}
        found["log_probs"] = log_probs(logits_MV, labels, in_place=not with_entropy)
        if self.use_ulysses_sp:
            assert share is not None  # verl refuses sequence parallelism with padding
            found = {name: gather_outputs_and_unpad(value, gather_dim=0)[share.slots] for name, value in found.items()}
        whole, lengths = logits_processor_func is not None, Lengths.of(micro_batch)
        return {name: _in_rows(value, lengths, whole) for name, value in found.items()}

    def _entropy(self, logits_MV: Tensor) -> Tensor:
        """(M,), as the engine's options say: checkpointed, in chunks, or at once."""
        options = self.engine_config
        if options.entropy_checkpointing:
            return checkpoint(self.compute_entropy_from_logits, logits_MV, use_reentrant=False)
        if options.entropy_from_logits_with_chunking:
            return self.compute_entropy_from_logits(logits_MV, chunk_size=options.entropy_from_logits_chunk_size)
        return self.compute_entropy_from_logits(logits_MV)


def _in_rows(value_N: Tensor, lengths: Lengths, whole: bool) -> Tensor:
    """Values of response tokens as verl has them, nested by row, each one token before its own.

    whole: rows of P + R, which losses expect; else of R + 1, which is all that is read of them.
    """
    sizes = lengths.responses + (lengths.prompts if whole else 1)
    offsets = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
    places = offsets[lengths.rows] + (lengths.predictors if whole else lengths.within)
    spread = value_N.new_zeros(int(offsets[-1])).index_put((places,), value_N)
    return torch.nested.nested_tensor_from_jagged(spread, offsets)
