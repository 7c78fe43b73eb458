"""Print the estimate as a table, with a column for each prompt length and a row for each part of each phase."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table
from verl_longrl.config import LongRLConfig
from verl_longrl.engine.supported import ENGINES, unsupported_reasons

from recipe.longrl.memory.estimate import ModelSizes, Sizes, device_gib, estimate, format_count
from recipe.longrl.memory.lengths import LENGTHS, LengthEstimate, estimate_lengths
from recipe.longrl.memory.shapes import ModelShape, ShapeError, read_shape
from recipe.longrl.model_folder import DUAL_CHUNK
from recipe.longrl.parallelism import n_gpus, parallel, uses_megatron
from recipe.longrl.settings import plain


@dataclass(frozen=True)
class TableRow:
    """A name, a function from a column to its text, and the phase whose shortage marks the row."""

    name: str
    cell: Callable[[LengthEstimate], str]
    phase: str = ""


def print_table(config: DictConfig, shape: ModelShape, lengths: tuple[int, ...] = LENGTHS) -> None:
    """Print the table for a resolved configuration."""
    console = Console()
    if uses_megatron(config):
        console.print("memory is not estimated with Megatron")
        return
    gpu_gib = device_gib(config, LongRLConfig.from_dict(plain(config.longrl)).gpu_memory_gib)
    model = ModelSizes.of(shape.config)
    columns = estimate_lengths(config, model, gpu_gib, lengths)
    first = columns[0]
    devices = "device" if config.trainer.device == "cpu" else "GPU"
    table = Table(title=f"memory: GiB per {devices}, of {gpu_gib:.0f}", title_justify="left")
    table.add_column("prompt length", no_wrap=True)
    for number, column in enumerate(columns):
        table.add_column(format_tokens(column.prompt) + ("\nconfigured" if number == 0 else ""), justify="right")
    for row in _rows(config, model, gpu_gib):
        if row is None:
            table.add_section()
            continue
        table.add_row(row.name, *(_marked(row, column) for column in columns))
    console.print(
        f"{format_count(first.sizes.parameters)} parameters ({shape.source}), {n_gpus(config)} {devices}s, engine "
        f"{first.sizes.engine}, {config.actor_rollout_ref.rollout.n} responses of {config.data.max_response_length:,} "
        "tokens per prompt",
        soft_wrap=True,
    )
    console.print(table)
    for line in (*_notes(config, first.sizes), *summarize_fit(columns, shape.config)):
        console.print(line, soft_wrap=True)


def print_table_if_readable(config: DictConfig) -> None:
    """Print the table, or one line if the model's shape cannot be read, which the preflight has reported."""
    try:
        shape = read_shape(config.actor_rollout_ref.model)
    except ShapeError as error:
        Console().print(f"memory: {error}", soft_wrap=True)
        return
    print_table(config, shape)


def format_tokens(number: int) -> str:
    """Format a number of tokens: 64K, 100,000."""
    return f"{number // 1024}K" if number % 1024 == 0 else f"{number:,}"


def summarize_fit(columns: list[LengthEstimate], model_config: Any) -> Iterator[str]:
    """Lines with the longest prompts that fit, or with fixes, and with lengths beyond the model's positions."""
    fitting = [column for column in columns if not column.shortages]
    if fitting:
        yield f"longest prompts that fit: {format_tokens(max(column.prompt for column in fitting))}"
    else:
        least = min(columns[1:] or columns, key=lambda column: column.prompt)
        yield f"none of these lengths fits. Fixes for {format_tokens(least.prompt)}, below actor_rollout_ref:"
        for shortage in least.shortages:
            yield f"  {shortage.phase}: {', or '.join(shortage.fixes)}"
    text = model_config.get_text_config()
    chunk = (getattr(text, DUAL_CHUNK, None) or {}).get("chunk_size")
    if chunked := [c for c in columns if chunk and c.prompt + c.config.data.max_response_length > chunk]:
        names = ", ".join(format_tokens(column.prompt) for column in chunked)
        yield f"the model's dual chunk attention is exact up to {chunk:,} tokens: {names} plus responses is rejected"
        return
    positions = getattr(text, "max_position_embeddings", None)
    beyond = [c for c in columns if positions and c.prompt + c.config.data.max_response_length > positions]
    if beyond:
        names = ", ".join(format_tokens(column.prompt) for column in beyond)
        yield f"the model has {positions:,} positions: {names} plus responses needs longrl.rope"


def _marked(row: TableRow, column: LengthEstimate) -> str:
    text = row.cell(column)
    does_not_fit = row.phase and any(shortage.phase == row.phase for shortage in column.shortages)
    return f"[bold red]{text} !![/]" if does_not_fit else text


def _rows(config: DictConfig, model: ModelSizes, gpu_gib: float) -> Iterator[TableRow | None]:
    """The rows; None is a line between phases."""

    def size(name: str) -> Callable[[LengthEstimate], str]:
        return lambda column: f"{getattr(column.sizes, name):.2f}"

    def other(change: Callable[[DictConfig], None], name: str) -> Callable[[LengthEstimate], str]:
        def cell(column: LengthEstimate) -> str:
            changed = column.config.copy()
            change(changed)
            return f"{getattr(estimate(changed, model, gpu_gib, n_gpus(config)), name):.2f}"

        return cell

    def checkpointing(on: bool) -> Callable[[DictConfig], None]:
        def change(changed: DictConfig) -> None:
            changed.actor_rollout_ref.model.enable_gradient_checkpointing = on

        return change

    def engine(name: str) -> Callable[[DictConfig], None]:
        def change(changed: DictConfig) -> None:
            override = changed.actor_rollout_ref.model.override_config
            if changed.longrl.engine == "shared_prompt" and override:
                # shared_prompt loads the model with sdpa, which says nothing about other engines.
                with open_dict(override):
                    override.pop("attn_implementation", None)
            changed.longrl.engine = name

        return change

    if config.trainer.device != "cpu":
        yield TableRow("generation: vLLM", size("vllm"))
        yield TableRow("  weights", size("rollout_weights"))
        yield TableRow("  profile run", size("profile"))
    yield TableRow("  KV cache" if config.trainer.device != "cpu" else "generation: KV cache", size("kv_cache"))
    yield TableRow("  longest rows that fit", _sequences, "KV cache")
    yield TableRow("  trainer's state on the GPU", size("resident"))
    yield TableRow("  peak", lambda c: f"{c.sizes.vllm + c.sizes.resident:.2f}", "generation")
    yield None
    if config.trainer.device != "cpu":
        yield TableRow("sleeping vLLM (in both below)", size("sleeping"))
    else:
        yield TableRow("the process (in both below)", size("process"))
    yield TableRow("old log-probs: peak", size("log_prob_peak"), "log-probs")
    yield None
    yield TableRow("update: tokens per micro-batch", lambda c: f"{c.sizes.tokens:,}")
    yield TableRow("  of them with logits", lambda c: f"{c.sizes.logit_tokens:,.0f}")
    yield TableRow("  weights", size("weights"))
    yield TableRow("  gradients", size("gradients"))
    yield TableRow("  optimizer", size("optimizer"))
    yield TableRow("  gathered layers", size("gathered"))
    chosen = config.actor_rollout_ref.model.enable_gradient_checkpointing
    for on in (chosen, not chosen):
        word = "with" if on else "without"
        yield TableRow(f"  activations {word} checkpointing", other(checkpointing(on), "kept"))
    if config.trainer.device == "cpu":
        yield TableRow("  holes in the heap", size("holes"))
    yield TableRow("  + one layer's backward", size("working"))
    chosen_engine = estimate(config, model, gpu_gib, n_gpus(config)).engine
    yield TableRow(f"  or logits, {chosen_engine}", size("logits"))
    for name in ENGINES:
        if name != chosen_engine and not unsupported_reasons(name, config, model.config):
            yield TableRow(f"     ({name})", other(engine(name), "logits"))
    yield TableRow("  peak", size("update_peak"), "update")
    yield TableRow(
        f"  peak {'without' if chosen else 'with'} checkpointing", other(checkpointing(not chosen), "update_peak")
    )
    yield None
    yield TableRow(
        "fits", lambda c: "no: " + ", ".join(shortage.phase for shortage in c.shortages) if c.shortages else "yes"
    )


def _sequences(column: LengthEstimate) -> str:
    longest = column.prompt + column.config.data.max_response_length
    return f"{column.sizes.kv_tokens / longest:.1f}"


def _notes(config: DictConfig, sizes: Sizes) -> Iterator[str]:
    batch = "one group, or one row of the largest length if a group does not fit"
    if sizes.engine != "shared_prompt":
        batch = "one row of the largest length"
    yield (
        f"Tokens per micro-batch: as configured, and for other lengths {batch}, divided by {parallel(config).sequence} "
        "sequence-parallel GPUs. Tokens with logits: for prompts of half the length on average. Peaks are not "
        "additive: logits are freed before the layers' backward pass."
    )
