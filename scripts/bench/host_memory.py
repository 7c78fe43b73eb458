"""Measure whether the memory of a trainer on the CPU stays the same while responses change their lengths.

    python scripts/bench/host_memory.py pypi:smollm2-135m

Each step draws prompts of 600 to 700 tokens, each with 4 to 8 responses of 20 to 400, and runs both passes of the
shared-prompt engine in float32: log-probabilities, and an update with AdamW. Both processes compute the same
batches, in a thread, as Ray's workers do. One has the allocator's settings of hardware=cpu, and returns freed memory
after each step, as verl does when it transfers weights; the other one leaves all to glibc.

A peak is the highest resident memory of one step (VmHWM); seconds are CPU time, because machines are shared. Writes
docs/results/host_memory.json with the calculator's prediction, and a picture next to it. The bar, where memory is
returned: after step 5 the peak grows by less than 10 %.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from recipe.longrl.pypi_models import local_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from check_memory import PROCESS_ENV, build_engine, make_batch, resident_gib, sum_log_probs

RESULT = Path("docs/results/host_memory.json")
PROMPT, RESPONSE, RESPONSES = (600, 700), (20, 400), (4, 8)
"""Ranges: tokens of a prompt, tokens of a response, responses to a prompt."""
SETTLED = 5
"""Peaks of later steps are compared with the highest up to this one."""
VARIANTS = ("returned", "kept")
DATA = [f"data.{split}_files=[none.parquet]" for split in ("train", "val")]


def variant_environment(variant: str) -> dict[str, str]:
    """The environment of a process: that of a worker with hardware=cpu, or without its settings of the allocator."""
    from recipe.longrl import settings, worker_env

    config = settings.compose(["hardware=cpu", *DATA])
    workers = worker_env.values_as_text(settings.plain(config.ray_kwargs.ray_init.runtime_env.env_vars))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    if variant == VARIANTS[0]:
        environment |= {name: value for name, value in workers.items() if name.startswith("MALLOC_")}
    return environment | PROCESS_ENV


def draw_batch(draw: random.Random, prompts: int, vocabulary: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of a prompt and a response, of random tokens."""

    def tokens(length: tuple[int, int]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(draw.getrandbits(32))
        return torch.randint(vocabulary, (draw.randint(*length),), generator=generator)

    rows = []
    for _ in range(prompts):
        prompt = tokens(PROMPT)
        rows += [(prompt, tokens(RESPONSE)) for _ in range(draw.randint(*RESPONSES))]
    return rows


def shorten_model(folder: Path, layers: int, target: Path) -> None:
    """Write the model with its first layers only into `target`."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    model.save_pretrained(target)


def train_steps(folder: Path, variant: str, steps: int, prompts: int, budget: int) -> None:
    """Train in this process; prints a line of JSON for each step.

    budget: tokens of a micro-batch.
    """
    from verl.utils.device import get_torch_device

    engine, draw = build_engine(folder, "shared_prompt", checkpointing=False, lr=1e-6), random.Random(0)
    vocabulary = engine.model_config.hf_config.vocab_size
    for step in range(1, steps + 1):
        rows = draw_batch(draw, prompts, vocabulary)
        # Resets VmHWM to the current resident memory.
        Path("/proc/self/clear_refs").write_text("5")
        before = resource.getrusage(resource.RUSAGE_SELF)
        with engine.eval_mode():
            engine.infer_batch(make_batch(rows, budget, scoring=True))
        with engine.train_mode():
            engine.train_batch(make_batch(rows, budget, scoring=False), sum_log_probs)
        if variant == VARIANTS[0]:
            get_torch_device().empty_cache()
        after = resource.getrusage(resource.RUSAGE_SELF)
        measured = {
            "step": step,
            "response_tokens": sum(len(response) for _, response in rows),
            "peak_gib": round(resident_gib("VmHWM"), 3),
            "resident_gib": round(resident_gib("VmRSS"), 3),
            "user_s": round(after.ru_utime - before.ru_utime, 2),
            "system_s": round(after.ru_stime - before.ru_stime, 2),
        }
        print(json.dumps(measured), flush=True)


def predict_peak_gib(folder: Path, prompts: int, budget: int) -> float:
    """The calculator's prediction of the highest peak."""
    from transformers import AutoConfig

    from recipe.longrl import memory, settings

    config = settings.compose(
        [
            *("hardware=cpu", "trainer.n_gpus_per_node=1", "longrl.engine=shared_prompt", *DATA),
            *(f"actor_rollout_ref.model.path={folder}", f"actor_rollout_ref.rollout.n={RESPONSES[1]}"),
            *(f"data.max_prompt_length={PROMPT[1]}", f"data.max_response_length={RESPONSE[1]}"),
            *(f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={budget}", f"data.train_batch_size={prompts}"),
            *(f"actor_rollout_ref.actor.ppo_mini_batch_size={prompts}", "actor_rollout_ref.rollout.temperature=1"),
        ]
    )
    model = memory.ModelSizes.of(AutoConfig.from_pretrained(folder))
    share = sum(PROMPT) / 2 / PROMPT[1]
    sizes = memory.estimate(config, model, gpu_gib=0, n_gpus=1, prompt_share=share)
    return max(sizes.update_peak, sizes.log_prob_peak)


def run_variant(variant: str, environment: dict[str, str], command: list[str]) -> list[dict[str, float]]:
    """The steps of a process, printed as they end."""
    steps = []
    process = subprocess.Popen([*command, "--variant", variant], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            steps.append(json.loads(line))
            print(f"{variant}: {line}", end="", flush=True)
    if process.wait():
        sys.exit(f"{variant}: the process ended with status {process.returncode}. Fix: see its messages above")
    return steps


def summarize(steps: list[dict[str, float]]) -> dict[str, float]:
    """Growth of the peak after step SETTLED, and the medians of the steps after the first."""
    peaks = [step["peak_gib"] for step in steps]
    return {
        "settled_peak_gib": max(peaks[:SETTLED]),
        "highest_peak_gib": max(peaks),
        "growth": round(max(peaks) / max(peaks[:SETTLED]) - 1, 3),
        "cpu_s_per_step": round(statistics.median(step["user_s"] + step["system_s"] for step in steps[1:]), 2),
        "system_s_per_step": round(statistics.median(step["system_s"] for step in steps[1:]), 2),
    }


def draw_curves(variants: dict[str, list[dict[str, float]]], predicted_gib: float, file: Path) -> None:
    """The peak of each step as SVG, with the prediction."""
    # Without pyplot there is neither a display nor a figure that stays in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for name, steps in variants.items():
        axes.plot([step["step"] for step in steps], [step["peak_gib"] for step in steps], label=name)
    axes.axhline(predicted_gib, color="grey", linewidth=0.8, linestyle=":", label="predicted")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("peak of resident memory, GiB")
    axes.legend(fontsize="small")
    figure.savefig(file, metadata={"Date": None, "Creator": None})


def main(
    model: Annotated[str, typer.Argument(help="The model's folder, or pypi:smollm2-135m.")],
    steps: Annotated[int, typer.Option(help="Steps of each process.")] = 50,
    prompts: Annotated[int, typer.Option(help="Prompts of a step.")] = 2,
    budget: Annotated[int, typer.Option(help="Tokens of a micro-batch.")] = 4096,
    layers: Annotated[int | None, typer.Option(help="Train the first layers only, which is faster.")] = None,
    at_once: Annotated[bool, typer.Option(help="Run both processes at the same time.")] = False,
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = RESULT,
    variant: Annotated[str, typer.Option(hidden=True, help="Train in this process.")] = "",
) -> None:
    """Run both processes, print their steps, write the JSON and the picture."""
    if variant:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(train_steps, Path(model), variant, steps, prompts, budget).result()
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = source = Path(local_folder(model))
        if layers is not None:
            folder = Path(scratch) / "model"
            shorten_model(source, layers, folder)
        sizes = ["--steps", str(steps), "--prompts", str(prompts), "--budget", str(budget)]
        command = [sys.executable, __file__, str(folder), *sizes]
        # Hydra composes in one thread only.
        environments = [variant_environment(variant) for variant in VARIANTS]
        with ThreadPoolExecutor(len(VARIANTS) if at_once else 1) as pool:
            measured = list(pool.map(partial(run_variant, command=command), VARIANTS, environments))
        predicted_gib = predict_peak_gib(folder, prompts, budget)
    variants: dict[str, Any] = dict(zip(VARIANTS, measured, strict=True))
    summaries = {name: summarize(values) for name, values in variants.items()}
    ratio = predicted_gib / summaries[VARIANTS[0]]["highest_peak_gib"]
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "predicted_peak_gib": round(predicted_gib, 2),
        "predicted_over_measured": round(ratio, 3),
        "summary": summaries,
        "steps": variants,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    draw_curves(variants, predicted_gib, output.with_suffix(".svg"))
    print(json.dumps({key: value for key, value in result.items() if key != "steps"}, indent=1))


if __name__ == "__main__":
    typer.run(main)
