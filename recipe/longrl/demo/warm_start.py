"""Supervised warm start: teach the response format and the look-up, but an impatient way of reading.

The teacher quotes the first fact it is asked for and goes on to the next with probability `patience`, then cites and
answers with what it quoted. The student therefore writes well-formed responses and looks facts up correctly, yet
rarely gathers *all* the evidence of a question: with k needed chunks about `patience ** (k - 1)` of its answers are
complete. Sampling finds complete ones; making them the habit is left to reinforcement learning.

Questions about one document share its prefix: they lie behind it in one sequence, each sees the document and
itself only, and positions restart after the document. That makes a step several times cheaper.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from recipe.longrl.demo.dataset import prompt_text
from recipe.longrl.demo.world import Document, Question, WorldConfig, documents, response


@dataclass(frozen=True)
class Stage:
    """`steps` of `documents_per_step` fresh documents from `world`, with a teacher of this `patience`."""

    steps: int
    documents_per_step: int
    world: WorldConfig
    patience: float


SHORT = WorldConfig(lengths=((8, 1.0),), evidence=((1, 1.0), (2, 1.0), (4, 1.0)), questions_per_document=16)
MIXED = WorldConfig(
    lengths=((8, 3.0), (12, 3.0), (16, 2.0), (24, 1.0), (40, 0.5), (64, 0.25)),
    evidence=((1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 1.0)),
    questions_per_document=16,
)


def stages(patience: float) -> tuple[Stage, ...]:
    """Looking up is learned from a patient teacher, on short documents and then on long ones; impatience comes last."""
    return Stage(160, 4, SHORT, 0.9), Stage(260, 4, MIXED, 0.9), Stage(80, 4, MIXED, patience)


@dataclass(frozen=True)
class WarmStartConfig:
    """Stages and optimisation of a warm start."""

    stages: tuple[Stage, ...] = stages(patience=0.2)
    lr: float = 5e-3
    warmup: int = 20

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


@dataclass(frozen=True)
class Packed:
    """Sequences of one document and its questions. B documents, T tokens.

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


def teacher(rng: random.Random, asked: Question, patience: float) -> str:
    """One demonstration: a response that goes on to each further fact with probability `patience`."""
    enough = 1
    while enough < len(asked.evidence) and rng.random() < patience:
        enough += 1
    return response(asked, asked.evidence[:enough])


def pack(tokenizer: PreTrainedTokenizerFast, demonstrations: list[tuple[Document, list[str]]]) -> Packed:
    """Pack each document with its questions and one response per question."""
    lines = [_line(tokenizer, document, responses) for document, responses in demonstrations]
    longest = max(len(line) for line in lines)
    filler = (tokenizer.pad_token_id, 0, -1, -100)
    packed = torch.tensor([line + [filler] * (longest - len(line)) for line in lines])
    return Packed(*(packed[..., column] for column in range(4)))


def _line(
    tokenizer: PreTrainedTokenizerFast, document: Document, responses: list[str]
) -> list[tuple[int, int, int, int]]:
    """(id, position, block, target) per token."""
    prompts = tokenizer([prompt_text(tokenizer, document, ask) for ask in document.questions])["input_ids"]
    written = tokenizer([text + tokenizer.eos_token for text in responses])["input_ids"]
    shared = _common_prefix(prompts)
    line = [(token, at, 0, -100) for at, token in enumerate(prompts[0][:shared])]
    for block, (prompt, response_ids) in enumerate(zip(prompts, written, strict=True), start=1):
        tokens = prompt + response_ids
        targets = [-100] * (len(prompt) - 1) + response_ids + [-100]
        line += [(tokens[at], at, block, targets[at]) for at in range(shared, len(tokens))]
    return line


def _common_prefix(prompts: list[list[int]]) -> int:
    """Tokens all prompts begin with; 0 for a single prompt, which shares nothing."""
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
    config: WarmStartConfig,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, value: None,
) -> list[float]:
    """Train `model` in place on documents drawn for `seed`; returns the loss of every step.

    Args:
        on_step: called with (steps done, loss) after each step.
    """
    rng = random.Random(f"longrl-teacher-{seed}")
    optimizers = _optimizers(model, config.lr)
    schedules = [LambdaLR(optimizer, lambda step: _lr_factor(step, config)) for optimizer in optimizers]
    losses: list[float] = []
    model.train()
    for step, (batch, patience) in enumerate(_batches(config, seed), start=1):
        demonstrations = [(doc, [teacher(rng, ask, patience) for ask in doc.questions]) for doc in batch]
        value = loss(model, pack(tokenizer, demonstrations))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        losses.append(value.item())
        on_step(step, losses[-1])
    model.eval()
    return losses


def _optimizers(model: Qwen3ForCausalLM, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learns to copy in far fewer steps than Adam; Adam for the rest."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    taken = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in taken]
    return [
        torch.optim.Muon(matrices, lr=0.4 * lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def _batches(config: WarmStartConfig, seed: int) -> Iterator[tuple[list[Document], float]]:
    """Documents and the teacher's patience of every step."""
    for number, stage in enumerate(config.stages):
        size = stage.documents_per_step
        drawn = documents(stage.world, stage.steps * size, f"warm-start-{seed}-{number}")
        yield from ((drawn[at : at + size], stage.patience) for at in range(0, len(drawn), size))


def _lr_factor(step: int, config: WarmStartConfig) -> float:
    """Linear warm-up, then a cosine to a tenth."""
    rise = min(1.0, (step + 1) / config.warmup)
    return rise * (0.1 + 0.45 * (1 + math.cos(math.pi * step / config.steps)))
