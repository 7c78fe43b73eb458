"""What computing each prompt once saves: update and log-prob pass of one group, three ways, alternating in one run.

- shipped: its responses one by one, logits at all tokens, as verl does
- responses: the same with logits at response tokens alone
- shared: all together, their prompt once (verl_longrl.engine)

The first two compute but some of the responses (`--sample`), which are all equally long, and their times are scaled.
Random weights and tokens; float32 on a CPU, bfloat16 with gradient checkpointing on a GPU. Ratios are medians over the
rounds; `model` is what counting multiplications predicts for responses / shared. Peak memory, above what the model and
its gradients take, is of a process of its own for each way (on a CPU its largest resident set). Imports neither Ray nor
verl.

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
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from verl_longrl.engine.attention import attend, best_way
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
WAYS = ("shipped", "responses", "shared")
PASSES = {"log_probs": False, "update": True}
GROWTH = {"response": (64, 256, 1024), "group": (2, 8, 16)}
app = typer.Typer(help=__doc__, rich_markup_mode=None, add_completion=False)


def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, shared: Layout, **_: Any):
    """transformers' attention interface."""
    return attend(*(x[0].transpose(0, 1) for x in (query, key, value)), shared, scaling)[None], None


ALL_ATTENTION_FUNCTIONS.register("bench_shared_prompt", attention)


def log_probs(logits_RV: torch.Tensor, labels_R: torch.Tensor) -> torch.Tensor:
    return logits_RV.float().log_softmax(-1).gather(-1, labels_R[:, None])[:, 0]


class Work:
    """One group of random tokens, and a model that computes it in any of WAYS."""

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

    def compute(self, way: str, backward: bool) -> torch.Tensor:
        """Log-probs of the response tokens, with gradients when `backward`."""
        self.model.config._attn_implementation = "bench_shared_prompt" if way == "shared" else "sdpa"
        with torch.set_grad_enabled(backward):
            return self._together(backward) if way == "shared" else self._one_by_one(backward, way == "responses")

    def _one_by_one(self, backward: bool, at_responses: bool) -> torch.Tensor:
        found = []
        for response in self.responses[: self.sample]:
            row = torch.cat([self.prompt, response])
            predictors = torch.arange(len(self.prompt) - 1, len(row) - 1, device=row.device)
            keep = predictors if at_responses else 0
            logits = self.model(row[None], use_cache=False, logits_to_keep=keep).logits[0]
            if at_responses:
                found.append(log_probs(logits, response))
            else:
                found.append(log_probs(logits, row.roll(-1))[predictors])
            if backward:
                found[-1].sum().backward()
        return torch.cat([part.detach() for part in found])

    def _together(self, backward: bool) -> torch.Tensor:
        layout = self.layout
        out = self.model(
            self.packed[None],
            position_ids=layout.position_ids[None],
            use_cache=False,
            shared=layout,
            logits_to_keep=layout.predictors,
        )
        found = log_probs(out.logits[0], self.packed[layout.responses])
        if backward:
            found.sum().backward()
        return found.detach()


def predicted(shape: str, prompt: int, response: int, group: int) -> float:
    """Multiplications of `responses` over those of `shared`: layers, attention, logits."""
    sizes = SHAPES[shape]
    hidden, kv = sizes["hidden_size"], sizes["num_key_value_heads"] / sizes["num_attention_heads"]
    layer = hidden * hidden * (2 + 2 * kv) + 3 * hidden * sizes["intermediate_size"]
    pair = 2 * hidden
    own = response * (prompt + response / 2)
    head = group * response * hidden * sizes["vocab_size"]

    def cost(tokens: float, pairs: float) -> float:
        return sizes["num_hidden_layers"] * (tokens * layer + pairs * pair) + head

    apart = cost(group * (prompt + response), group * (prompt**2 / 2 + own))
    return apart / cost(prompt + group * response, prompt**2 / 2 + group * own)


def seconds(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(case: dict[str, Any], rounds: int, device: str) -> dict[str, Any]:
    """Times and ratios of a case, all ways after one another in every round."""
    work = Work(**case, device=device)
    values = {way: work.compute(way, False) for way in WAYS}
    sizes = {key: case[key] for key in ("shape", "prompt", "response", "group")}
    row: dict[str, Any] = {**case, "predicted": predicted(**sizes)}
    some = values["responses"]
    row["largest_difference"] = (some - values["shared"][: len(some)]).abs().max().item()
    for name, backward in PASSES.items():
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                scale = 1 if way == "shared" else work.scale
                times[way].append(scale * seconds(lambda: work.compute(way, backward), device))  # noqa: B023
        row[name] = times
        for way in ("shipped", "responses"):
            row[f"{name}_{way}"] = statistics.median(a / b for a, b in zip(times[way], times["shared"], strict=True))
    return row


def resident_mib(what: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


@app.command(hidden=True)
def peak(case: str, way: str, device: str, backward: Annotated[bool, typer.Option()]) -> None:
    """Print the peak memory of one way to compute a case, in MiB above what was there before."""
    work = Work(**json.loads(case), device=device)
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident_mib("VmRSS")
        work.compute(way, backward)
        print(resident_mib("VmHWM") - before)
    else:
        before = torch.cuda.memory_allocated()
        work.compute(way, backward)
        print((torch.cuda.max_memory_allocated() - before) / 2**20)


def peaks(case: dict[str, Any], device: str) -> dict[str, dict[str, float]]:
    """MiB by pass and way; a way that does not fit has none."""
    found: dict[str, dict[str, float]] = {name: {} for name in PASSES}
    for name, backward in PASSES.items():
        for way in WAYS:
            flag = "--backward" if backward else "--no-backward"
            one = json.dumps({**case, "sample": 1})  # the others would need the same again
            command = [sys.executable, __file__, "peak", one, way, device, flag]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                found[name][way] = float(done.stdout.strip().splitlines()[-1])
    return found


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    names = [f"{name}_{way}" for name in PASSES for way in ("shipped", "responses")]
    ratios = [f"{row[name]:.2f}" for name in [*names, "predicted"]]
    memory = [f"{row['peak_mib']['update'].get(way, float('nan')):.0f}" for way in WAYS]
    sizes = [str(row[key]) for key in ("prompt", "response", "group")]
    print(f"| {' | '.join([*sizes, *ratios, *memory])} | {row['largest_difference']:.1e} |", flush=True)


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("outputs/bench_engine.json"),
    prompts: Annotated[list[int] | None, typer.Option(help="Prompt tokens; again for several.")] = None,
    response: Annotated[int, typer.Option(help="Response tokens.")] = 256,
    group: Annotated[int, typer.Option(help="Responses of a prompt.")] = 8,
    shape: Annotated[str, typer.Option(help=f"Of the model: {', '.join(SHAPES)}.")] = "tiny",
    rounds: Annotated[int, typer.Option(help="Alternating rounds.")] = 3,
    sample: Annotated[int, typer.Option(help="Responses computed where they are computed one by one.")] = 2,
    growth: Annotated[bool, typer.Option(help="Then vary response and group, at 4096 prompt tokens.")] = True,
) -> None:
    """Measure, print and write."""
    if shape not in SHAPES:
        raise typer.BadParameter(f"{shape!r}; expected one of {', '.join(SHAPES)}", param_hint="--shape")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = {"shape": shape, "response": response, "group": group, "sample": sample}
    cases = [{**base, "prompt": prompt} for prompt in prompts or [1024, 4096, 8192, 16384]]
    if growth:
        cases += [
            {**base, "prompt": 4096, what: value}
            for what, values in GROWTH.items()
            for value in values
            if value != base[what]
        ]
    columns = ["P", "R", "G", *(f"{name}: {way}" for name in PASSES for way in WAYS[:2]), "model"]
    columns += [*(f"MiB: {way}" for way in WAYS), "difference"]
    print("times over those of shared; peak memory of the update; largest difference of log-probs")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    rows = []
    for case in cases:
        row = measure(case, rounds, device)
        row["peak_mib"] = peaks(case, device)
        rows.append(row)
        show(row)
    output.parent.mkdir(parents=True, exist_ok=True)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    way = best_way(
        torch.device(device), dtype, SHAPES[shape]["hidden_size"] // SHAPES[shape]["num_attention_heads"]
    ).way
    about = {"device": device, "cpus": os.cpu_count(), "threads": torch.get_num_threads(), "way": way}
    if device != "cpu":
        about["gpu"] = torch.cuda.get_device_name()
    output.write_text(json.dumps({**about, "sizes": SHAPES[shape], "rows": rows}, indent=1) + "\n")
    print(output)


if __name__ == "__main__":
    sys.argv[1:1] = [] if sys.argv[1:2] == ["peak"] else ["run"]
    app()
