"""What computing each prompt once saves: update and log-prob pass of one group, against its responses one by one.

Both sides compute logits at response tokens alone, in float32 on a CPU and bfloat16 on a GPU, with a model of random
weights; alternating in one run, medians of the ratios. `model` is the ratio that counting multiplications predicts.
Imports neither Ray nor verl.

    python scripts/bench_engine.py --prompts 1024 --prompts 4096 --output outputs/bench_engine.json
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from verl_longrl.engine.attention import attend
from verl_longrl.engine.layout import Group, Layout

SHAPES = {
    "tiny": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4}
    | {"intermediate_size": 688, "vocab_size": 1024},
    "0.5b": {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2}
    | {"intermediate_size": 4864, "vocab_size": 32768},
}


def attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, shared_prompt: Layout, **_: Any
):
    """transformers' attention interface."""
    return attend(*(x[0].transpose(0, 1) for x in (query, key, value)), shared_prompt, scaling)[None], None


def build(shape: str, positions: int, way: str, device: str) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(**SHAPES[shape], max_position_embeddings=positions, tie_word_embeddings=False)
    config._attn_implementation = way
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return Qwen2ForCausalLM(config).to(device, dtype)


def log_probs(logits_RV: torch.Tensor, labels_R: torch.Tensor) -> torch.Tensor:
    return logits_RV.float().log_softmax(-1).gather(-1, labels_R[:, None])[:, 0]


class Work:
    """One group of random tokens, computed either way."""

    def __init__(self, shape: str, prompt: int, response: int, count: int, device: str):
        vocabulary = SHAPES[shape]["vocab_size"]
        generator = torch.Generator().manual_seed(1)
        draw = lambda size: torch.randint(vocabulary, (size,), generator=generator).to(device)  # noqa: E731
        self.prompt, self.responses = draw(prompt), [draw(response) for _ in range(count)]
        self.layout = Layout([Group(prompt, (response,) * count)], device)
        self.packed = torch.cat([self.prompt, *self.responses])
        ALL_ATTENTION_FUNCTIONS.register("bench_shared_prompt", attention)
        self.plain = build(shape, prompt + response, "sdpa", device)
        self.shared = build(shape, prompt + response, "bench_shared_prompt", device)

    def one_by_one(self, backward: bool) -> torch.Tensor:
        """(N,) log-probs of the response tokens."""
        found = []
        for response in self.responses:
            keep = torch.arange(len(self.prompt) - 1, len(self.prompt) + len(response) - 1, device=response.device)
            out = self.plain(torch.cat([self.prompt, response])[None], use_cache=False, logits_to_keep=keep)
            found.append(log_probs(out.logits[0], response))
            if backward:
                found[-1].sum().backward()
        return torch.cat([part.detach() for part in found])

    def together(self, backward: bool) -> torch.Tensor:
        """The same."""
        layout = self.layout
        out = self.shared(
            self.packed[None],
            position_ids=layout.position_ids[None],
            use_cache=False,
            shared_prompt=layout,
            logits_to_keep=layout.predictors,
        )
        found = log_probs(out.logits[0], self.packed[layout.responses])
        if backward:
            found.sum().backward()
        return found.detach()


def predicted(shape: str, prompt: int, response: int, count: int) -> float:
    """Multiplications one by one over those together: layers, attention, logits."""
    sizes = SHAPES[shape]
    hidden, kv = sizes["hidden_size"], sizes["num_key_value_heads"] / sizes["num_attention_heads"]
    layer = hidden * hidden * (2 + 2 * kv) + 3 * hidden * sizes["intermediate_size"]
    pair = 2 * hidden
    own = response * (prompt + response / 2)
    head = count * response * hidden * sizes["vocab_size"]

    def cost(tokens: float, pairs: float) -> float:
        return sizes["num_hidden_layers"] * (tokens * layer + pairs * pair) + head

    apart = cost(count * (prompt + response), count * (prompt**2 / 2 + own))
    return apart / cost(prompt + count * response, prompt**2 / 2 + count * own)


def seconds(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(shape: str, prompt: int, response: int, count: int, rounds: int, device: str) -> dict[str, Any]:
    work = Work(shape, prompt, response, count, device)
    with torch.no_grad():
        difference = (work.one_by_one(False) - work.together(False)).abs().max().item()
    row: dict[str, Any] = {"prompt": prompt, "response": response, "group": count, "largest_difference": difference}
    row["predicted"] = predicted(shape, prompt, response, count)
    for name, backward in (("log_probs", False), ("update", True)):
        apart, shared = [], []
        for _ in range(rounds):
            with torch.set_grad_enabled(backward):
                apart.append(seconds(lambda: work.one_by_one(backward), device))  # noqa: B023
                shared.append(seconds(lambda: work.together(backward), device))  # noqa: B023
        row[name] = {"one_by_one_s": apart, "together_s": shared}
        row[f"{name}_ratio"] = statistics.median(a / b for a, b in zip(apart, shared, strict=True))
    return row


def main(
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("outputs/bench_engine.json"),
    prompts: Annotated[list[int] | None, typer.Option(help="Prompt tokens; again for several.")] = None,
    response: Annotated[int, typer.Option(help="Response tokens.")] = 256,
    group: Annotated[int, typer.Option(help="Responses of a prompt.")] = 8,
    shape: Annotated[str, typer.Option(help=f"Of the model: {', '.join(SHAPES)}.")] = "tiny",
    rounds: Annotated[int, typer.Option(help="Alternating rounds.")] = 3,
) -> None:
    """Measure and print."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    print(
        "| prompt | log-probs: ratio | update: ratio | model | largest difference |\n|---|---|---|---|---|", flush=True
    )
    for prompt in prompts or [1024, 4096, 8192, 16384]:
        row = measure(shape, prompt, response, group, rounds, device)
        rows.append(row)
        ratios = (f"{row[key]:.2f}" for key in ("log_probs_ratio", "update_ratio", "predicted"))
        print(f"| {prompt} | {' | '.join(ratios)} | {row['largest_difference']:.1e} |", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    about = {"device": device, "cpus": os.cpu_count(), "threads": torch.get_num_threads(), "shape": SHAPES[shape]}
    output.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    print(output)


if __name__ == "__main__":
    typer.run(main)
