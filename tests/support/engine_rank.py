"""One rank that computes the same rows with verl's FSDP engine and with ours: python engine_rank.py FOLDER CASE.

CASE is JSON (see tests/engine/test_engines.py); torch's RANK, WORLD_SIZE, ... must be set. All engines start from the
same weights. Each computes log-probs and entropies without a gradient, then the gradients of a loss with a different
weight for every token, and of verl's own loss. The results go to FOLDER/RANK.pt.
"""

import json
import random
import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.utils.ulysses import (
    all_gather_tensor,
    gather_heads_scatter_seq,
    gather_seq_scatter_heads,
    get_ulysses_sequence_parallel_group,
)
from verl.workers.config import ActorConfig, FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import response_from_nested
from verl_longrl.engine.response_logits import ResponseLogitsEngine
from verl_longrl.engine.shared_prompt import SharedPromptEngine

VOCABULARY = 97
FLOAT32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


class UnorderedEngine(SharedPromptEngine):
    """A wrong engine, which returns rows in the order in which they were computed."""

    def _micro_batches(self, *args, **kwargs):
        batches, rows = super()._micro_batches(*args, **kwargs)
        in_computed_order = torch.arange(sum(map(len, rows))).split([len(batch) for batch in rows])
        return batches, [list(indices) for indices in in_computed_order]


ENGINES = {
    "upstream": FSDPEngineWithLMHead,
    "response_logits": ResponseLogitsEngine,
    "shared_prompt": SharedPromptEngine,
}
WRONG_ENGINES = {"unordered": UnorderedEngine}


def save_model(folder: Path, tied: bool) -> None:
    """Save a tiny model with larger initial weights than usual, so that its attention affects the logits."""
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=96,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=tied,
    )
    Qwen3ForCausalLM(shape).save_pretrained(folder)


def ulysses_attention(module, query, key, value, mask, scaling, position_ids=None, **unused):
    """verl's flash-attn attention for padding-free rows, including Ulysses, in plain torch."""
    group = get_ulysses_sequence_parallel_group()
    positions = all_gather_tensor(position_ids[0], group) if group else position_ids[0]
    expanded = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (query, key, value))
    q, k, v = (gather_seq_scatter_heads(x, seq_dim=2, head_dim=1) for x in expanded)
    row = (positions == 0).cumsum(0)
    allowed = (row[:, None] == row).tril()
    scores = (q @ k.mT * scaling).masked_fill(~allowed, -torch.inf)
    return gather_heads_scatter_seq((scores.softmax(-1) @ v).transpose(1, 2), head_dim=2, seq_dim=1), None


def random_rows(groups: list[int], seed: int, padding: int) -> list[tuple[torch.Tensor, torch.Tensor, bool]]:
    """(prompt, response, is_padding) in random order; groups: the number of responses for each prompt."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    rows = []
    for count in groups:
        prompt = torch.randint(VOCABULARY, (draw.randrange(20, 60),), generator=generator)
        for _ in range(count):
            response = torch.randint(VOCABULARY, (draw.randrange(1, 30),), generator=generator)
            rows.append((prompt, response, False))
    rows += [(torch.full((15,), 1), torch.tensor([2]), True)] * padding
    draw.shuffle(rows)
    return rows


def nested(tensors):
    return torch.nested.as_nested_tensor(list(tensors), layout=torch.jagged)


def make_batch(rows, case, temperature):
    """verl's batch. temperature: one for all rows, or None for a different one for each row."""
    ids = [torch.cat([prompt, response]) for prompt, response, _ in rows]
    masks = [torch.zeros(len(r)) if padding else torch.ones(len(r)) for _, r, padding in rows]
    generator = torch.Generator().manual_seed(5)

    def random_values(scale):
        return nested(scale * torch.randn(len(mask), generator=generator) for mask in masks)

    return tu.get_tensordict(
        {
            "prompts": nested(prompt for prompt, _, _ in rows),
            "responses": nested(response for _, response, _ in rows),
            "input_ids": nested(ids),
            "position_ids": nested(torch.arange(len(row)) for row in ids),
            "loss_mask": nested(masks),
            "response_mask": nested(mask.clone() for mask in masks),
            "old_log_probs": random_values(5.0),
            "ref_log_prob": random_values(5.0),
            "advantages": random_values(1.0),
            **({} if temperature else {"temperature": torch.linspace(0.6, 1.4, len(rows))}),
        },
        {
            "use_dynamic_bsz": True,
            "max_token_len_per_gpu": case["budget"],
            "calculate_entropy": True,
            "use_remove_padding": case["padding_free"],
            "pad_token_id": 0,
            "global_batch_size": len(rows) * case["ranks"],
            **({"temperature": temperature} if temperature else {}),
        },
    )


def weighted_loss(model_output, data, dp_group=None):
    """A loss with a different weight for every token, which shows a token in the wrong place."""
    total = torch.zeros(())
    columns = (model_output["log_probs"], model_output["entropy"], data["prompts"])
    for log_probs, entropy, prompt in zip(*(x.unbind() for x in columns), strict=True):
        response = slice(len(prompt) - 1, -1)
        ratio = (log_probs[response] - log_probs[response].detach()).exp()
        weight = torch.sin(torch.arange(len(ratio)) + len(prompt))
        total = total - (ratio * weight).sum() - 0.01 * entropy[response].sum()
    return total, {}


def make_ppo_loss(mode: str):
    """verl's loss with clipping, entropy and KL. mode: its loss_agg_mode."""
    config = ActorConfig(
        strategy="fsdp2",
        rollout_n=2,
        use_dynamic_bsz=True,
        loss_agg_mode=mode,
        loss_scale_factor=30 if mode == "seq-mean-token-sum-norm" else None,
        entropy_coeff=0.01,
        use_kl_loss=True,
        kl_loss_coef=0.1,
    )
    return partial(ppo_loss, config=config)


def run_engine(engine_class, folder, case, rows):
    """Log-probs and entropies of the responses, value and gradients of every loss, and the metrics."""
    model = HFModelConfig(
        path=str(folder),
        load_tokenizer=False,
        use_remove_padding=case["padding_free"],
        enable_gradient_checkpointing=case["checkpointing"],
        override_config={"attn_implementation": case["attention"]},
        lora_rank=case["lora"],
    )
    model.model_type = "language_model"
    config = FSDPEngineConfig(
        strategy="fsdp2",
        model_dtype="fp32",
        mixed_precision=FLOAT32,
        use_torch_compile=False,
        ulysses_sequence_parallel_size=case["sequence"],
        entropy_checkpointing=case["checkpointing"],
        entropy_from_logits_with_chunking=case["chunked"],
        entropy_from_logits_chunk_size=16,
    )
    engine = engine_class(model, config, FSDPOptimizerConfig(lr=1e-3), CheckpointConfig())
    torch.manual_seed(7)  # For the initial weights of adapters.
    engine.initialize()
    batch = make_batch(rows, case, None)
    with engine.eval_mode():
        inferred = engine.infer_batch(batch)
    gradients, losses = {}, {}
    for name, loss in {"weighted": weighted_loss, **{mode: make_ppo_loss(mode) for mode in case["modes"]}}.items():
        with engine.train_mode():
            engine.optimizer_zero_grad()
            output = engine.forward_backward_batch(make_batch(rows, case, case["temperature"]), loss)
            losses[name] = sum(output["loss"])
            trained = [(key, p) for key, p in engine.module.named_parameters() if p.requires_grad]
            gradients[name] = {key: p.grad.full_tensor().clone() for key, p in trained}
    values = {
        name: list(response_from_nested(inferred["model_output"][name], batch["response_mask"]).unbind())
        for name in ("log_probs", "entropy")
    }
    # The driver receives these values in a log-prob pass.
    returned = sum(len(row) for row in inferred["model_output"]["log_probs"].unbind())
    return {**values, "gradients": gradients, "losses": losses, "metrics": inferred["metrics"], "returned": returned}


def main(folder: Path, case: dict) -> None:
    torch.set_num_threads(1)
    ALL_ATTENTION_FUNCTIONS.register("ulysses_attention", ulysses_attention)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    if rank == 0:
        save_model(folder / "model", case["tied"])
    torch.distributed.barrier()
    rows = random_rows(case["groups"][rank], case["seeds"][rank], case["padding"])
    engines = ENGINES | {name: WRONG_ENGINES[name] for name in case["wrong"]}
    results = {name: run_engine(engine, folder / "model", case, rows) for name, engine in engines.items()}
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
