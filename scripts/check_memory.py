"""Compare the memory calculator with measurements: the peak of one micro-batch in addition to the model.

    python scripts/check_memory.py --output docs/results/memory.json

Each case runs in a separate process. On a CPU, in float32, the highest resident memory (VmHWM) is measured, without
that of the built model with its gradients; on a GPU, in bfloat16, torch.cuda.max_memory_allocated likewise.
`transformers`: plain forward and backward passes without Ray and verl, with our attention for the shared prompt.
`verl`: the engines inside verl's FSDP2 on one rank (CPU only). A micro-batch is one group for the shared prompt and one
row otherwise, with logits where the engine computes them.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from rich.console import Console
from rich.table import Table

SHAPE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4}
SHAPE |= {"intermediate_size": 688, "vocab_size": 8192, "tie_word_embeddings": False}
ENGINES = ("shared_prompt", "response_logits", "upstream")
PASSES = ("log-probs", "update", "update, checkpointing")
PROCESS_ENV = {"OMP_NUM_THREADS": "1", "VERL_PLATFORM": "cpu", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
ALLOCATOR_ENV = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
"""Make glibc return freed memory at once. Otherwise resident memory is that of its heap, not of tensors."""


class Case(NamedTuple):
    """One micro-batch. responses: rollouts of the prompt, each of `response` tokens."""

    implementation: str
    engine: str
    pass_name: str
    prompt: int
    response: int
    responses: int

    @property
    def rows(self) -> int:
        """Rows of the micro-batch."""
        return self.responses if self.engine == "shared_prompt" else 1

    @property
    def tokens(self) -> int:
        """Tokens that the engine computes."""
        return self.prompt + self.rows * self.response

    @property
    def checkpointing(self) -> bool:
        return self.pass_name == PASSES[2]


def predict_gib(case: Case, device: str) -> float:
    """GiB in addition to weights and gradients, as recipe.longrl.memory estimates them.

    Without FSDP, its gathered layers are left out. ALLOCATOR_ENV leaves no holes in the heap.
    """
    from transformers import Qwen2Config

    from recipe.longrl import memory, settings
    from recipe.longrl.memory.logits import logit_bytes

    config = settings.compose(
        [
            "hardware=cpu" if device == "cpu" else "hardware=1gpu",
            "trainer.n_gpus_per_node=1",
            *(f"data.{split}_files=[none.parquet]" for split in ("train", "val")),
            *("actor_rollout_ref.model.path=none", f"longrl.engine={case.engine}"),
            *(f"data.max_prompt_length={case.prompt}", f"data.max_response_length={case.response}"),
            *(f"actor_rollout_ref.rollout.n={case.rows}", "actor_rollout_ref.rollout.temperature=1"),
            f"actor_rollout_ref.model.enable_gradient_checkpointing={case.checkpointing}",
            f"actor_rollout_ref.model.use_remove_padding={case.implementation == 'transformers'}",
            f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={case.tokens}",
            f"actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu={case.tokens}",
            "actor_rollout_ref.actor.fsdp_config.entropy_from_logits_with_chunking=false",
            *("actor_rollout_ref.actor.fsdp_config.optimizer_offload=true", "data.train_batch_size=1"),
            "actor_rollout_ref.actor.ppo_mini_batch_size=1",
        ]
    )
    model = memory.ModelSizes.of(Qwen2Config(**SHAPE, architectures=["Qwen2ForCausalLM"]))
    sizes = memory.estimate(config, model, gpu_gib=80, n_gpus=1, prompt_share=1.0)
    if case.implementation == "verl":
        return (
            sizes.log_prob_peak - sizes.process - sizes.weights
            if case.pass_name == PASSES[0]
            else sizes.update_peak - sizes.process - sizes.holes - sizes.train_state
        )
    compute = 4 if device == "cpu" else 2
    if case.pass_name == PASSES[0]:
        words = SHAPE["vocab_size"]
        logits = logit_bytes(config, case.engine, words, compute, 0, sizes.logit_tokens)[1]
        return max(case.tokens * model.widths.forward(compute), logits) / memory.GIB
    last_norm = case.tokens * model.widths.last_norm(compute) / memory.GIB
    return sizes.kept + max(sizes.working, last_norm + sizes.logits)


def engine_log_probs(engine: str, logits_NV: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """(N,): log-probs of labels, as the engine computes them."""
    from verl.utils.torch_functional import logprobs_from_logits
    from verl_longrl.engine.log_probs import compute_log_probs

    if engine == "upstream":
        return logprobs_from_logits(logits_NV, labels_N)
    return compute_log_probs(logits_NV, labels_N, in_place=True)


def entropy(logits_NV: torch.Tensor) -> torch.Tensor:
    """(N,): like verl's entropy_from_logits."""
    probabilities = torch.nn.functional.softmax(logits_NV, dim=-1)
    return torch.logsumexp(logits_NV, dim=-1) - torch.sum(probabilities * logits_NV, dim=-1)


def transformers_pass(case: Case, device: str) -> Callable[[int], None]:
    """A function that runs the pass for a prompt of n tokens, with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from verl_longrl.engine.attention import attend
    from verl_longrl.engine.layout import Group, Layout

    def attention(module, query, key, value, mask, scaling, shared_prompt, **_):
        return attend(*(x[0].transpose(0, 1) for x in (query, key, value)), shared_prompt, scaling)[None], None

    ALL_ATTENTION_FUNCTIONS.register("check_shared_prompt", attention)
    config = Qwen2Config(**SHAPE, max_position_embeddings=case.prompt + case.response)
    config._attn_implementation = "check_shared_prompt" if case.engine == "shared_prompt" else "sdpa"
    model = Qwen2ForCausalLM(config).to(device, torch.float32 if device == "cpu" else torch.bfloat16).train()
    if case.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def run(prompt: int) -> None:
        layout = Layout([Group(prompt, (case.response,) * case.rows)], device)
        ids = torch.randint(SHAPE["vocab_size"], (layout.tokens,), device=device)
        inputs: dict[str, Any] = {"position_ids": layout.position_ids[None], "use_cache": False}
        labels = ids[layout.response_indices]
        if case.engine == "shared_prompt":
            inputs["shared_prompt"] = layout
        if case.engine == "upstream":
            labels = ids.roll(-1)
        else:
            inputs["logits_to_keep"] = layout.predictor_indices
        with torch.set_grad_enabled(case.pass_name != PASSES[0]):
            logits_NV = model(ids[None], **inputs).logits[0]
            if case.pass_name == PASSES[0]:
                entropy(logits_NV)
            values = engine_log_probs(case.engine, logits_NV, labels)
            del logits_NV
            if case.pass_name != PASSES[0]:
                values.sum().backward()

    return run


def build_engine(folder: Path | str, name: str, checkpointing: bool, lr: float = 1e-3) -> Any:
    """One of ENGINES inside verl's FSDP2, in float32 on this process's only rank."""
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
    from verl_longrl.engine.response_logits import ResponseLogitsEngine
    from verl_longrl.engine.shared_prompt import SharedPromptEngine

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    model = HFModelConfig(
        path=str(folder),
        load_tokenizer=False,
        use_remove_padding=False,
        enable_gradient_checkpointing=checkpointing,
        override_config={"attn_implementation": "sdpa"},
    )
    model.model_type = "language_model"
    precision = dict.fromkeys(("param_dtype", "reduce_dtype", "buffer_dtype"), "fp32")
    options = FSDPEngineConfig(strategy="fsdp2", model_dtype="fp32", mixed_precision=precision, use_torch_compile=False)
    classes = dict(zip(ENGINES, (SharedPromptEngine, ResponseLogitsEngine, FSDPEngineWithLMHead), strict=True))
    engine = classes[name](model, options, FSDPOptimizerConfig(lr=lr), CheckpointConfig())
    engine.initialize()
    return engine


def make_batch(rows: list[tuple[torch.Tensor, torch.Tensor]], budget: int, scoring: bool) -> Any:
    """verl's batch of rows [prompt; response], in micro-batches of at most `budget` tokens."""
    from verl.utils import tensordict_utils as tu

    ids = [torch.cat(row) for row in rows]
    columns = {
        "prompts": [prompt for prompt, _ in rows],
        "responses": [response for _, response in rows],
        "input_ids": ids,
        "position_ids": [torch.arange(len(row)) for row in ids],
        "loss_mask": [torch.ones(len(response)) for _, response in rows],
    }
    options = {"use_dynamic_bsz": True, "max_token_len_per_gpu": budget, "calculate_entropy": scoring}
    options |= {"use_remove_padding": False, "pad_token_id": 0, "temperature": 1.0}
    nested = {name: torch.nested.as_nested_tensor(values, layout=torch.jagged) for name, values in columns.items()}
    return tu.get_tensordict(nested, options)


def sum_log_probs(model_output: Any, data: Any, dp_group: Any = None) -> tuple[torch.Tensor, dict[str, Any]]:
    """A loss for verl's engines: the sum of all log-probabilities."""
    return model_output["log_probs"].values().sum(), {}


def verl_pass(case: Case) -> Callable[[int], None]:
    """The same with verl's engine and FSDP2 on one rank."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        Qwen2ForCausalLM(Qwen2Config(**SHAPE, max_position_embeddings=case.prompt + case.response)).save_pretrained(
            folder
        )
        engine = build_engine(folder, case.engine, case.checkpointing)

    def run(prompt: int) -> None:
        prompt_ids = torch.randint(SHAPE["vocab_size"], (prompt,))
        rows = [(prompt_ids, response) for response in torch.randint(1, 9, (case.rows, case.response))]
        scoring = case.pass_name == PASSES[0]
        data = make_batch(rows, case.tokens, scoring)
        if scoring:
            with engine.eval_mode():
                engine.infer_batch(data)
            return
        with engine.train_mode(zero_grad_on_exit=False):
            engine.forward_backward_batch(data, sum_log_probs)

    return run


def measure(case: Case, device: str) -> float:
    """Peak GiB of the pass in addition to the memory before it."""
    torch.manual_seed(0)
    run = verl_pass(case) if case.implementation == "verl" else transformers_pass(case, device)
    # A first short pass loads code and allocates gradients.
    run(64)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(case.prompt)
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    # Resets VmHWM to the current resident memory.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_gib("VmRSS")
    run(case.prompt)
    return resident_gib("VmHWM") - before


def resident_gib(name: str) -> float:
    """A field of /proc/self/status in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20


def main(
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("outputs/check_memory.json"),
    prompts: Annotated[list[int] | None, typer.Option(help="Prompt tokens; may be repeated.")] = None,
    response: Annotated[int, typer.Option(help="Response tokens.")] = 256,
    responses: Annotated[int, typer.Option(help="Rollouts per prompt.")] = 4,
    case: Annotated[str | None, typer.Option(hidden=True, help="Measure one case in this process.")] = None,
) -> None:
    """Measure all cases, compare them with the prediction, print a table and write the JSON."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if case is not None:
        print(json.dumps(measure(Case(*json.loads(case)), device)))
        return
    implementations = ("transformers", "verl") if device == "cpu" else ("transformers",)
    rows, console = [], Console()
    table = Table(
        "implementation", "engine", "pass", "prompt", "tokens", "predicted GiB", "measured GiB", "predicted / measured"
    )
    for implementation, engine, pass_name, prompt in itertools.product(
        implementations, ENGINES, PASSES, prompts or [1024, 4096]
    ):
        one = Case(implementation, engine, pass_name, prompt, response, responses)
        command = [sys.executable, __file__, "--case", json.dumps(one)]
        process = subprocess.run(
            command, env={**os.environ, **PROCESS_ENV, **ALLOCATOR_ENV}, stdout=subprocess.PIPE, text=True
        )
        if process.returncode:
            raise SystemExit(f"{one} failed, see above")
        sizes = {"measured_gib": json.loads(process.stdout.splitlines()[-1]), "predicted_gib": predict_gib(one, device)}
        sizes["ratio"] = sizes["predicted_gib"] / sizes["measured_gib"]
        rows.append(one._asdict() | {"tokens": one.tokens} | sizes)
        figures = (f"{sizes[name]:.3f}" for name in ("predicted_gib", "measured_gib", "ratio"))
        table.add_row(implementation, engine, pass_name, f"{prompt:,}", f"{one.tokens:,}", *figures)
    console.print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    environment = {"device": device, "dtype": "float32" if device == "cpu" else "bfloat16", "shape": SHAPE}
    output.write_text(json.dumps({**environment, "cases": rows}, indent=1) + "\n")
    console.print(str(output))


if __name__ == "__main__":
    typer.run(main)
