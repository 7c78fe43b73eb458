"""Supervised warm start of a tiny model: in a minute it learns a response format and to look up facts.

Each world has a teacher (in its `build.py`) whose demonstrations have a bad habit. So the student finds the facts of a
text, and only some of its answers are complete. Sampling finds more of these, and reinforcement learning makes them the
habit.

Prompts about one document share its prefix. They follow the document in one sequence, each attends only to the document
and to itself, and positions restart after the document. That makes a step several times cheaper.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM
from verl_longrl.data.schema import Message


@dataclass(frozen=True)
class Lesson:
    """Chats about one document, and the demonstrated response to each."""

    prompts: tuple[list[Message], ...]
    responses: tuple[str, ...]


@dataclass(frozen=True)
class Optimisation:
    """Peak learning rate, and the number of steps until it is reached."""

    lr: float = 5e-3
    warmup: int = 20


@dataclass(frozen=True)
class Packed:
    """A batch of documents, each in one sequence with its questions. B documents, T tokens.

    Shapes: ids_BT, positions_BT, blocks_BT (0 the shared prefix, 1.. the questions, -1 padding), targets_BT
    (the next token, or -100 where nothing is learned).
    """

    ids_BT: torch.Tensor
    positions_BT: torch.Tensor
    blocks_BT: torch.Tensor
    targets_BT: torch.Tensor

    @property
    def mask_B1TT(self) -> torch.Tensor:
        """True where a query (third axis) may see a key (last axis)."""
        query_BT1, key_B1T = self.blocks_BT[:, :, None], self.blocks_BT[:, None, :]
        causal_TT = torch.ones(self.ids_BT.shape[1], self.ids_BT.shape[1], dtype=torch.bool).tril()
        return (causal_TT & ((key_B1T == query_BT1) | (key_B1T == 0)))[:, None]


def pack(tokenizer: PreTrainedTokenizerFast, lessons: Sequence[Lesson]) -> Packed:
    """Pack each lesson into one sequence."""
    sequences = [_pack_lesson(tokenizer, lesson) for lesson in lessons]
    longest = max(len(sequence) for sequence in sequences)
    padding = (tokenizer.pad_token_id, 0, -1, -100)
    packed = torch.tensor([sequence + [padding] * (longest - len(sequence)) for sequence in sequences])
    return Packed(*(packed[..., column] for column in range(4)))


def _pack_lesson(tokenizer: PreTrainedTokenizerFast, lesson: Lesson) -> list[tuple[int, int, int, int]]:
    """(id, position, block, target) of each token."""
    prompt_texts = tokenizer.apply_chat_template(list(lesson.prompts), add_generation_prompt=True, tokenize=False)
    prompts = tokenizer(prompt_texts)["input_ids"]
    responses = tokenizer([text + tokenizer.eos_token for text in lesson.responses])["input_ids"]
    shared = _common_prefix(prompts)
    sequence = [(token, at, 0, -100) for at, token in enumerate(prompts[0][:shared])]
    for block, (prompt, response_ids) in enumerate(zip(prompts, responses, strict=True), start=1):
        tokens = prompt + response_ids
        # The target of each token is the next token; the prompt's last token predicts the response's first.
        targets = [-100] * (len(prompt) - 1) + response_ids + [-100]
        sequence += [(tokens[at], at, block, targets[at]) for at in range(shared, len(tokens))]
    return sequence


def _common_prefix(prompts: list[list[int]]) -> int:
    """Number of tokens that all prompts start with; 0 for a single prompt, which shares nothing."""
    if len(prompts) == 1:
        return 0
    alike = (len(set(column)) == 1 for column in zip(*prompts, strict=False))
    return sum(1 for _ in itertools.takewhile(bool, alike))


def loss(model: Qwen3ForCausalLM, packed: Packed) -> torch.Tensor:
    """Mean cross entropy over response tokens, in nats."""
    hidden_BTD = model.model(
        input_ids=packed.ids_BT, position_ids=packed.positions_BT, attention_mask=packed.mask_B1TT, use_cache=False
    ).last_hidden_state
    learned_BT = packed.targets_BT != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden_BTD[learned_BT]), packed.targets_BT[learned_BT])


def warm_start(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    batches: Iterable[Sequence[Lesson]],
    steps: int,
    optimisation: Optimisation = Optimisation(),
    on_step: Callable[[int, float], None] = lambda step, value: None,
) -> list[float]:
    """Train `model` in place on `steps` batches; returns the loss of every step.

    Args:
        on_step: called with (steps done, loss) after each step.
    """
    optimizers = _optimizers(model, optimisation.lr)
    rates = partial(_lr_factor, steps=steps, warmup=optimisation.warmup)
    schedules = [LambdaLR(optimizer, rates) for optimizer in optimizers]
    losses: list[float] = []
    model.train()
    for step, batch in enumerate(batches, start=1):
        value = loss(model, pack(tokenizer, batch))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            with _InFloat32():
                optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        losses.append(value.item())
        on_step(step, losses[-1])
    model.eval()
    return losses


def _optimizers(model: Qwen3ForCausalLM, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learn to copy in far fewer steps than with Adam; Adam for all others."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    matrix_ids = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in matrix_ids]
    return [
        torch.optim.Muon(matrices, lr=0.4 * lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


class _InFloat32(TorchFunctionMode):
    """Keep torch's Muon in float32: its bfloat16 products are slow on CPUs without instructions for them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0].clone() if func is torch.Tensor.bfloat16 else func(*args, **(kwargs or {}))


def _lr_factor(step: int, *, steps: int, warmup: int) -> float:
    """Linear warm-up, then cosine decay to a tenth of the peak."""
    rise = min(1.0, (step + 1) / warmup)
    return rise * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
