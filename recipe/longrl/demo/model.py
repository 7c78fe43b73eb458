"""A Qwen3 model with about 0.5M parameters: two layers, the fewest that can look up a fact.

It has three heads of size 64 (vLLM's CPU attention supports 32, 64, ...): with size 32, too few rotary frequencies are
slow enough to match a token hundreds of tokens away. It starts with induction heads (`circuits.py`). It is not a Qwen2
model, because transformers 5 loads the byte-level Qwen2Tokenizer for every `qwen2` folder
(MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS) instead of ours.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from recipe.longrl.demo.circuits import Circuits, write_induction_heads

ROPE_THETA = 1e6


def build_model(tokenizer: PreTrainedTokenizerFast, circuits: Circuits, seed: int) -> Qwen3ForCausalLM:
    """An initialised float32 model for `tokenizer`, with `circuits`; the same seed gives the same weights."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        initializer_range=0.1,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config).float()
        write_induction_heads(model, circuits, tokenizer.get_vocab(), ROPE_THETA)
    return model


def save_model(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights (safetensors), config, generation config and tokenizer as one Hugging Face folder."""
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
    )
    disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
