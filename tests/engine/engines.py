"""One rank of a comparison of engines: python engines.py FOLDER CASE.json, with the ranks' environment variables.

Computes the same rows with upstream's FSDP engine and with ours, from the same weights: log-probs and entropies without
gradient, then a loss like PPO's with it; saves what each gives to FOLDER/RANK.pt.
"""

import json
import random
import sys
from pathlib import Path

import torch
import torch.distributed
from transformers import Qwen3Config, Qwen3ForCausalLM
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl_longrl.engine.shared_prompt import SharedPromptEngine

VOCABULARY = 97
FLOAT32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


def weights(folder: Path, tied: bool) -> None:
    """A tiny model whose attention matters: with larger weights than a new one has."""
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


def rows(groups: list[int], seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Prompts and responses in random order; so many responses for each prompt."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    found = []
    for count in groups:
        prompt = torch.randint(VOCABULARY, (draw.randrange(20, 60),), generator=generator)
        found += [
            (prompt, torch.randint(VOCABULARY, (draw.randrange(1, 30),), generator=generator)) for _ in range(count)
        ]
    draw.shuffle(found)
    return found


def batch(found, case):
    nested = lambda tensors: torch.nested.as_nested_tensor(list(tensors), layout=torch.jagged)  # noqa: E731
    ids = [torch.cat(row) for row in found]
    return tu.get_tensordict(
        {
            "prompts": nested(prompt for prompt, _ in found),
            "responses": nested(response for _, response in found),
            "input_ids": nested(ids),
            "position_ids": nested(torch.arange(len(row)) for row in ids),
            "loss_mask": nested(torch.ones(len(response)) for _, response in found),
            "temperature": torch.linspace(0.6, 1.4, len(found)),
        },
        {
            "use_dynamic_bsz": True,
            "max_token_len_per_gpu": case["budget"],
            "calculate_entropy": True,
            "use_remove_padding": False,
            "pad_token_id": 0,
        },
    )


def loss(model_output, data, dp_group=None):
    """Another weight for every token, so that a token in the wrong place shows."""
    total = torch.zeros(())
    for log_probs, entropy, prompt in zip(*(x.unbind() for x in (*_both(model_output), data["prompts"])), strict=True):
        own = slice(len(prompt) - 1, -1)
        ratio = (log_probs[own] - log_probs[own].detach()).exp()
        weight = torch.sin(torch.arange(len(ratio)) + len(prompt))
        total = total - (ratio * weight).sum() - 0.01 * entropy[own].sum()
    return total, {}


def _both(model_output):
    return model_output["log_probs"], model_output["entropy"]


def computed(kind, folder, case, found):
    """What an engine gives: log-probs and entropies of the responses, the gradient of every parameter, the metrics."""
    model = HFModelConfig(
        path=str(folder),
        load_tokenizer=False,
        use_remove_padding=False,
        enable_gradient_checkpointing=case["checkpointing"],
        override_config={"attn_implementation": "sdpa"},
    )
    model.model_type = "language_model"
    config = FSDPEngineConfig(
        strategy="fsdp2",
        model_dtype="fp32",
        mixed_precision=FLOAT32,
        use_torch_compile=False,
        entropy_from_logits_with_chunking=case["chunked"],
        entropy_from_logits_chunk_size=16,
    )
    engine = kind(model, config, FSDPOptimizerConfig(lr=1e-3), CheckpointConfig())
    engine.initialize()
    with engine.eval_mode():
        inferred = engine.infer_batch(batch(found, case))
    with engine.train_mode():
        engine.optimizer_zero_grad()
        engine.forward_backward_batch(batch(found, case), loss)
        gradients = {name: p.grad.full_tensor().clone() for name, p in engine.module.named_parameters()}
    values = {
        name: [
            value[len(prompt) - 1 : -1]
            for value, (prompt, _) in zip(inferred["model_output"][name].unbind(), found, strict=True)
        ]
        for name in ("log_probs", "entropy")
    }
    return {**values, "gradients": gradients, "metrics": inferred["metrics"]}


def main(folder: Path, case: dict) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    if rank == 0:
        weights(folder / "model", case["tied"])
    torch.distributed.barrier()
    found = rows(case["groups"][rank], seed=rank)
    kinds = {"upstream": FSDPEngineWithLMHead, "ours": SharedPromptEngine}
    torch.save(
        {name: computed(kind, folder / "model", case, found) for name, kind in kinds.items()}, folder / f"{rank}.pt"
    )
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
