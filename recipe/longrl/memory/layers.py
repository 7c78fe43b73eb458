"""Bytes of activations per token, counted from what autograd saves in transformers' decoder layers.

With c bytes per number, h the hidden size, q and k the widths of queries and of keys (heads x head size), i the MLP's
width, a layer of Llama, Mistral, Qwen2 or Qwen3 keeps for its backward pass

    norms       2 h (4 + 2 c)        input in float32, normalised, scaled
    attention   c (2 q + 2 k)        rotated queries, output; rotated keys, values
    q/k norms   (q + k) (4 + c)      where the model has them (Qwen3): input in float32, normalised
    MLP         4 c i                gate, its activation, up, their product

and a mixture of E experts per token 4 c E i + 2 c E h, for hidden states are copied for each expert. With gradient
checkpointing only the layer's input is kept (c h), and one layer at a time computes the rest again. Its backward takes
`backward` beside what it keeps; a pass without gradient takes `forward` in all. The counts of what is kept are exact
(tests/recipe/test_memory.py compares them with autograd's), those of the two passes were read off the allocator.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Widths:
    """Sizes of one decoder layer, in numbers per token.

    mlp: of all experts that see a token. experts: how many do, 0 without a mixture. qk_norm: whether queries and keys
    are normalised. heads: of queries.
    """

    hidden: int
    queries: int
    keys: int
    mlp: int
    experts: int
    heads: int
    qk_norm: bool

    @classmethod
    def of(cls, text: Any, qk_norm: bool) -> "Widths":
        """Of a model's text config."""
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        experts = getattr(text, "num_experts_per_tok", None) or 0
        mlp = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        if experts:
            mlp = experts * (getattr(text, "moe_intermediate_size", None) or mlp)
            mlp += getattr(text, "shared_expert_intermediate_size", None) or 0
        return cls(
            hidden=text.hidden_size,
            queries=text.num_attention_heads * head,
            keys=kv_heads * head,
            mlp=mlp,
            experts=experts,
            heads=text.num_attention_heads,
            qk_norm=qk_norm,
        )

    @property
    def head(self) -> int:
        """Of one head."""
        return self.queries // self.heads

    def kept(self, c: int) -> float:
        """For the backward pass, without gradient checkpointing. c: bytes per number."""
        norms = 2 * self.hidden * (4 + 2 * c) + (self.queries + self.keys) * (4 + c) * self.qk_norm
        attention = c * 2 * (self.queries + self.keys) + 4 * self.heads  # and the log-sum-exp
        return norms + attention + c * (4 * self.mlp + 2 * self.experts * self.hidden)

    def backward(self, c: int) -> float:
        """Beside what is kept: the MLP's gradients."""
        return c * (max(2 * self.mlp, 3 * self.experts * self.hidden) + 1.5 * self.hidden)

    def forward(self, c: int) -> float:
        """Without gradient: the MLP, or the norms' and attention's tensors."""
        if self.experts:
            copies = self.experts * self.hidden
            return c * (max(4 * self.mlp + copies, 4 * copies) + 5 * self.hidden)
        return c * max(3 * self.mlp + 4.5 * self.hidden, 8 * self.hidden)

    def last_norm(self, c: int) -> float:
        """The norm behind the last layer, kept while logits exist."""
        return self.hidden * (4 + 2 * c)

    def last_norm_backward(self) -> float:
        """And with what its backward takes, in float32, when the logits are gone."""
        return 26 * self.hidden
