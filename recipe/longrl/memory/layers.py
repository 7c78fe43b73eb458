"""Bytes of activations per token, counted from what autograd saves in transformers' decoder layers.

With c bytes per number, h the hidden size, q and k the widths of queries and of keys (heads x head size) and i the
width of the MLP, a layer of Llama, Mistral, Qwen2 or Qwen3 keeps for its backward pass

    norms       2 h (4 + 2 c)        input in float32, normalized, scaled
    attention   c (2 q + 2 k)        rotated queries, output; rotated keys, values
    q/k norms   (q + k) (4 + c)      if the model has them (Qwen3): input in float32, normalized
    MLP         4 c i                gate, its activation, up, their product

bytes. A mixture of E experts per token keeps 4 c E i + 2 c E h instead, because hidden states are copied for each
expert. With gradient checkpointing only the layer's input is kept (c h), and one layer at a time recomputes the rest.

`LayerWidths.backward` is what a layer's backward pass takes in addition to what it keeps, `forward` the total of a pass
without gradient. The counts of what is kept are exact (tests/recipe/test_memory.py compares them with autograd's);
those of the two passes were read off the allocator.

Example: a layer of Qwen2.5-7B in bfloat16 keeps 225,392 bytes per token, 7,168 with checkpointing.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LayerWidths:
    """Sizes of one decoder layer, in numbers per token."""

    hidden: int
    queries: int
    keys: int
    """Also the width of values."""
    mlp: int
    """Of all experts that compute a token, together."""
    experts: int
    """Experts that compute a token, 0 without a mixture."""
    heads: int
    """Query heads."""
    qk_norm: bool
    """Whether queries and keys are normalized."""

    @classmethod
    def of(cls, text: Any, qk_norm: bool) -> "LayerWidths":
        """From a model's text config."""
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
        """Numbers per token of one head."""
        return self.queries // self.heads

    def kept(self, c: int) -> float:
        """Bytes kept for the backward pass without gradient checkpointing. c: bytes per number."""
        norms = 2 * self.hidden * (4 + 2 * c) + (self.queries + self.keys) * (4 + c) * self.qk_norm
        # The last term is the log-sum-exp, one float32 number per head.
        attention = c * 2 * (self.queries + self.keys) + 4 * self.heads
        return norms + attention + c * (4 * self.mlp + 2 * self.experts * self.hidden)

    def backward(self, c: int) -> float:
        """Temporary bytes of the backward pass: the MLP's gradients."""
        return c * (max(2 * self.mlp, 3 * self.experts * self.hidden) + 1.5 * self.hidden)

    def forward(self, c: int) -> float:
        """Bytes of a pass without gradient: those of the MLP, or of norms and attention, whichever are more."""
        if self.experts:
            copies = self.experts * self.hidden
            return c * (max(4 * self.mlp + copies, 4 * copies) + 5 * self.hidden)
        return c * max(3 * self.mlp + 4.5 * self.hidden, 8 * self.hidden)

    def last_norm(self, c: int) -> float:
        """Bytes that the norm after the last layer keeps while logits exist."""
        return self.hidden * (4 + 2 * c)

    def last_norm_backward(self) -> float:
        """The same plus temporary float32 bytes of its backward pass, which runs after the logits are freed."""
        return 26 * self.hidden
