"""Benchmark the shared-prompt engine: times of one group's update and log-prob pass, relative to the engine's.

Three variants alternate in one run:

- shipped: responses one by one, with logits at all tokens, as in verl
- responses: responses one by one, with logits only at response tokens
- shared: all responses together, their prompt computed once (verl_longrl.engine)

The first two compute only `--sample` of the responses, which all have the same length, and their times are scaled.
Weights and tokens are random; float32 on a CPU, bfloat16 with gradient checkpointing on a GPU. Ratios are medians over
the rounds; `model` is the ratio responses / shared that counting multiplications predicts. Peak memory is measured in a
separate process for each variant (on a CPU the largest resident set), above that of the model and its gradients.
Imports neither Ray nor verl.

    python scripts/bench/engine.py --output outputs/bench_engine.json         1K to 16K tokens, then growth with R and G
    python scripts/bench/engine.py --shape 7b --prompts 16384 --prompts 65536 --prompts 131072               (on a GPU)
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from verl_longrl.engine.attention import attend, choose_backend
from verl_longrl.engine.layout import Group, Layout

SHAPES = {
    "tiny": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4}
    | {"intermediate_size": 688, "vocab_size": 1024},
    "0.5b": {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2}
    | {"intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True},
    "1.5b": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2}
    | {"intermediate_size": 8960, "vocab_size": 151936, "tie_word_embeddings": True},
    "7b": {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}
    | {"intermediate_size": 18944, "vocab_size": 152064},
}
VARIANTS = ("shipped", "responses", "shared")
PASSES = {"log_probs": False, "update": True}
GROWTH = {"response": (64, 256, 1024), "group": (2, 8, 16)}
app = typer.Typer(help=__doc__, rich_markup_mode=None, add_completion=False)


def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, shared: Layout, **_: Any):
    """(1, T, H, D): transformers' attention interface."""
    return attend(*(x[0].transpose(0, 1) for x in (query, key, value)), shared, scaling)[None], None


ALL_ATTENTION_FUNCTIONS.register("bench_shared_prompt", attention)


def log_probs(logits_RV: torch.Tensor, labels_R: torch.Tensor) -> torch.Tensor:
    return logits_RV.float().log_softmax(-1).gather(-1, labels_R[:, None])[:, 0]


class GroupWorkload:
    """One group of random tokens, and a model that computes it by any of VARIANTS."""

    def __init__(self, shape: str, prompt: int, response: int, group: int, sample: int, device: str):
        generator = torch.Generator().manual_seed(1)
        sizes = [prompt, *[response] * group]
        draw = [torch.randint(SHAPES[shape]["vocab_size"], (size,), generator=generator) for size in sizes]
        self.prompt, *self.responses = (tokens.to(device) for tokens in draw)
        self.sample, self.scale = min(sample, group), group / min(sample, group)
        self.layout = Layout([Group(prompt, (response,) * group)], device)
        self.packed = torch.cat([self.prompt, *self.responses])
        torch.manual_seed(0)
        config = Qwen2Config(**{"tie_word_embeddings": False, **SHAPES[shape]}, max_position_embeddings=2**18)
        config._attn_implementation = "sdpa"
        with torch.device(device):
            self.model = Qwen2ForCausalLM(config).to(torch.float32 if device == "cpu" else torch.bfloat16)
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        if device != "cpu":
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def compute(self, variant: str, backward: bool) -> torch.Tensor:
        """(N,): log-probs of the response tokens; also computes gradients if `backward`."""
        self.model.config._attn_implementation = "bench_shared_prompt" if variant == "shared" else "sdpa"
        with torch.set_grad_enabled(backward):
            if variant == "shared":
                return self._together(backward)
            return self._one_by_one(backward, logits_at_responses=variant == "responses")

    def _one_by_one(self, backward: bool, logits_at_responses: bool) -> torch.Tensor:
        parts = []
        for response in self.responses[: self.sample]:
            row = torch.cat([self.prompt, response])
            predictors = torch.arange(len(self.prompt) - 1, len(row) - 1, device=row.device)
            keep = predictors if logits_at_responses else 0
            logits = self.model(row[None], use_cache=False, logits_to_keep=keep).logits[0]
            if logits_at_responses:
                parts.append(log_probs(logits, response))
            else:
                parts.append(log_probs(logits, row.roll(-1))[predictors])
            if backward:
                parts[-1].sum().backward()
        return torch.cat([part.detach() for part in parts])

    def _together(self, backward: bool) -> torch.Tensor:
        layout = self.layout
        out = self.model(
            self.packed[None],
            position_ids=layout.position_ids[None],
            use_cache=False,
            shared=layout,
            logits_to_keep=layout.predictor_indices,
        )
        values = log_probs(out.logits[0], self.packed[layout.response_indices])
        if backward:
            values.sum().backward()
        return values.detach()


def predict_ratio(shape: str, prompt: int, response: int, group: int) -> float:
    """Multiplications of `responses` divided by those of `shared`: layers, attention, logits."""
    sizes = SHAPES[shape]
    hidden, kv = sizes["hidden_size"], sizes["num_key_value_heads"] / sizes["num_attention_heads"]
    layer = hidden * hidden * (2 + 2 * kv) + 3 * hidden * sizes["intermediate_size"]
    pair = 2 * hidden
    # Pairs of a query and a key that one response's tokens attend to.
    response_pairs = response * (prompt + response / 2)
    head = group * response * hidden * sizes["vocab_size"]

    def cost(tokens: float, pairs: float) -> float:
        return sizes["num_hidden_layers"] * (tokens * layer + pairs * pair) + head

    separate = cost(group * (prompt + response), group * (prompt**2 / 2 + response_pairs))
    return separate / cost(prompt + group * response, prompt**2 / 2 + group * response_pairs)


def measure_seconds(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure_case(case: dict[str, Any], rounds: int, device: str) -> dict[str, Any]:
    """Times and ratios of a case. In every round all variants run one after another."""
    workload = GroupWorkload(**case, device=device)
    values = {variant: workload.compute(variant, False) for variant in VARIANTS}
    sizes = {key: case[key] for key in ("shape", "prompt", "response", "group")}
    row: dict[str, Any] = {**case, "predicted": predict_ratio(**sizes)}
    sampled = values["responses"]
    row["largest_difference"] = (sampled - values["shared"][: len(sampled)]).abs().max().item()
    for name, backward in PASSES.items():
        times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(rounds):
            for variant in VARIANTS:
                scale = 1 if variant == "shared" else workload.scale
                seconds = measure_seconds(partial(workload.compute, variant, backward), device)
                times[variant].append(scale * seconds)
        row[name] = times
        for variant in ("shipped", "responses"):
            row[f"{name}_{variant}"] = statistics.median(
                a / b for a, b in zip(times[variant], times["shared"], strict=True)
            )
    return row


def resident_mib(field: str) -> float:
    """Resident memory of this process. field: VmRSS (current) or VmHWM (peak)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


@app.command(hidden=True)
def peak(case: str, variant: str, device: str, backward: Annotated[bool, typer.Option()]) -> None:
    """Print the peak memory of one variant, in MiB above the memory before it."""
    workload = GroupWorkload(**json.loads(case), device=device)
    if device == "cpu":
        # Resets VmHWM.
        Path("/proc/self/clear_refs").write_text("5")
        before = resident_mib("VmRSS")
        workload.compute(variant, backward)
        print(resident_mib("VmHWM") - before)
    else:
        before = torch.cuda.memory_allocated()
        workload.compute(variant, backward)
        print((torch.cuda.max_memory_allocated() - before) / 2**20)


def measure_peaks(case: dict[str, Any], device: str) -> dict[str, dict[str, float]]:
    """MiB by pass and variant; a variant that does not fit is left out."""
    peaks: dict[str, dict[str, float]] = {name: {} for name in PASSES}
    for name, backward in PASSES.items():
        for variant in VARIANTS:
            flag = "--backward" if backward else "--no-backward"
            # The responses are computed one after another, so one of them has the same peak as several.
            one = json.dumps({**case, "sample": 1})
            command = [sys.executable, __file__, "peak", one, variant, device, flag]
            process = subprocess.run(command, capture_output=True, text=True)
            if process.returncode == 0:
                peaks[name][variant] = float(process.stdout.strip().splitlines()[-1])
    return peaks


def print_row(row: dict[str, Any]) -> None:
    """Print one line of the table."""
    names = [f"{name}_{variant}" for name in PASSES for variant in ("shipped", "responses")]
    ratios = [f"{row[name]:.2f}" for name in [*names, "predicted"]]
    memory = [f"{row['peak_mib']['update'].get(variant, float('nan')):.0f}" for variant in VARIANTS]
    sizes = [str(row[key]) for key in ("prompt", "response", "group")]
    print(f"| {' | '.join([*sizes, *ratios, *memory])} | {row['largest_difference']:.1e} |", flush=True)


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("outputs/bench_engine.json"),
    prompts: Annotated[list[int] | None, typer.Option(help="Prompt tokens; may be repeated.")] = None,
    response: Annotated[int, typer.Option(help="Response tokens.")] = 256,
    group: Annotated[int, typer.Option(help="Responses per prompt.")] = 8,
    shape: Annotated[str, typer.Option(help=f"Shape of the model: {', '.join(SHAPES)}.")] = "tiny",
    rounds: Annotated[int, typer.Option(help="Alternating rounds.")] = 3,
    sample: Annotated[int, typer.Option(help="Responses that the variants `shipped` and `responses` compute.")] = 2,
    growth: Annotated[bool, typer.Option(help="Also vary response and group, at 4096 prompt tokens.")] = True,
) -> None:
    """Run the benchmark, print a table and write the JSON."""
    if shape not in SHAPES:
        raise typer.BadParameter(f"{shape!r}; expected one of {', '.join(SHAPES)}", param_hint="--shape")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = {"shape": shape, "response": response, "group": group, "sample": sample}
    cases = [{**base, "prompt": prompt} for prompt in prompts or [1024, 4096, 8192, 16384]]
    if growth:
        cases += [
            {**base, "prompt": 4096, size: value}
            for size, values in GROWTH.items()
            for value in values
            if value != base[size]
        ]
    columns = ["P", "R", "G", *(f"{name}: {variant}" for name in PASSES for variant in VARIANTS[:2]), "model"]
    columns += [*(f"MiB: {variant}" for variant in VARIANTS), "difference"]
    print("times relative to shared; peak memory of the update; largest difference of log-probs")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    rows = []
    for case in cases:
        row = measure_case(case, rounds, device)
        row["peak_mib"] = measure_peaks(case, device)
        rows.append(row)
        print_row(row)
    output.parent.mkdir(parents=True, exist_ok=True)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    head_size = SHAPES[shape]["hidden_size"] // SHAPES[shape]["num_attention_heads"]
    backend = choose_backend(torch.device(device), dtype, head_size).backend
    environment: dict[str, Any] = {
        "device": device,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "backend": backend,
    }
    if device != "cpu":
        environment["gpu"] = torch.cuda.get_device_name()
    output.write_text(json.dumps({**environment, "sizes": SHAPES[shape], "rows": rows}, indent=1) + "\n")
    print(output)


if __name__ == "__main__":
    sys.argv[1:1] = [] if sys.argv[1:2] == ["peak"] else ["run"]
    app()
