"""The table of sizes: one column for each prompt length, one row for each part of each phase."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table
from verl_longrl.config import LongRLConfig
from verl_longrl.engine.supported import ENGINES, unsupported_reasons

from recipe.longrl.memory.estimate import Model, Sizes, count, device_gib, estimate
from recipe.longrl.memory.lengths import LENGTHS, AtLength, at_lengths
from recipe.longrl.memory.shapes import Shape, ShapeError, read
from recipe.longrl.model_folder import DUAL_CHUNK
from recipe.longrl.parallelism import n_gpus, parallel, uses_megatron
from recipe.longrl.settings import plain


@dataclass(frozen=True)
class Row:
    """A name, a figure of a column as text, and the phase whose shortage marks it."""

    name: str
    cell: Callable[[AtLength], str]
    phase: str = ""


def show(config: DictConfig, shape: Shape, lengths: tuple[int, ...] = LENGTHS) -> None:
    """Print the table for a resolved configuration."""
    console = Console()
    if uses_megatron(config):
        console.print("memory is not estimated with Megatron, whose sizes the estimate does not know")
        return
    gpu_gib = device_gib(config, LongRLConfig.from_dict(plain(config.longrl)).gpu_memory_gib)
    model = Model.of(shape.config)
    columns = at_lengths(config, model, gpu_gib, lengths)
    first = columns[0]
    devices = "device" if config.trainer.device == "cpu" else "GPU"
    table = Table(title=f"memory: GiB per {devices}, of {gpu_gib:.0f}", title_justify="left")
    table.add_column("prompts of", no_wrap=True)
    for number, column in enumerate(columns):
        table.add_column(tokens(column.prompt) + ("\nas set" if number == 0 else ""), justify="right")
    for row in _rows(config, model, gpu_gib):
        if row is None:
            table.add_section()
            continue
        table.add_row(row.name, *(_marked(row, column) for column in columns))
    console.print(
        f"{count(first.sizes.parameters)} parameters ({shape.source}), {n_gpus(config)} {devices}s, engine "
        f"{first.sizes.engine}, {config.actor_rollout_ref.rollout.n} responses of {config.data.max_response_length:,} "
        "tokens to a prompt",
        soft_wrap=True,
    )
    console.print(table)
    for line in (*_notes(config, first.sizes), *verdict(columns, shape.config)):
        console.print(line, soft_wrap=True)


def show_if_readable(config: DictConfig) -> None:
    """The same, after a preflight that has said what is wrong with a model whose shape cannot be read."""
    try:
        shape = read(config.actor_rollout_ref.model)
    except ShapeError as error:
        Console().print(f"memory: {error}", soft_wrap=True)
        return
    show(config, shape)


def tokens(number: int) -> str:
    """As people say it: 64K."""
    return f"{number // 1024}K" if number % 1024 == 0 else f"{number:,}"


def verdict(columns: list[AtLength], model_config: Any) -> Iterator[str]:
    """The longest prompts that fit, or what to change; and which of them the model has no positions for."""
    fitting = [column for column in columns if not column.short]
    if fitting:
        yield f"longest that fits: prompts of {tokens(max(column.prompt for column in fitting))}"
    else:
        least = min(columns[1:] or columns, key=lambda column: column.prompt)
        yield f"none of these lengths fits; for {tokens(least.prompt)}, under actor_rollout_ref:"
        for shortage in least.short:
            yield f"  {shortage.phase}: {', or '.join(shortage.fixes)}"
    text = model_config.get_text_config()
    chunk = (getattr(text, DUAL_CHUNK, None) or {}).get("chunk_size")
    if chunked := [c for c in columns if chunk and c.prompt + c.config.data.max_response_length > chunk]:
        names = ", ".join(tokens(column.prompt) for column in chunked)
        yield f"the model's dual chunk attention is plain up to {chunk:,} tokens: {names} with its responses is refused"
        return
    positions = getattr(text, "max_position_embeddings", None)
    beyond = [c for c in columns if positions and c.prompt + c.config.data.max_response_length > positions]
    if beyond:
        names = ", ".join(tokens(column.prompt) for column in beyond)
        yield f"the model has {positions:,} positions: {names} with its responses needs longrl.rope"


def _marked(row: Row, column: AtLength) -> str:
    text = row.cell(column)
    short = row.phase and any(shortage.phase == row.phase for shortage in column.short)
    return f"[bold red]{text} !![/]" if short else text


def _rows(config: DictConfig, model: Model, gpu_gib: float) -> Iterator[Row | None]:
    """None: a line between phases."""

    def size(name: str) -> Callable[[AtLength], str]:
        return lambda column: f"{getattr(column.sizes, name):.2f}"

    def other(change: Callable[[DictConfig], None], name: str) -> Callable[[AtLength], str]:
        def cell(column: AtLength) -> str:
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
            if changed.longrl.engine == "shared_prompt" and override:  # it loads the model with sdpa, others may not
                with open_dict(override):
                    override.pop("attn_implementation", None)
            changed.longrl.engine = name

        return change

    if config.trainer.device != "cpu":
        yield Row("generation: vLLM", size("vllm"))
        yield Row("  weights", size("rollout_weights"))
        yield Row("  profile run", size("profile"))
    yield Row("  KV cache" if config.trainer.device != "cpu" else "generation: KV cache", size("kv_cache"))
    yield Row("  longest rows it holds", _sequences, "KV cache")
    yield Row("  trainer's state beside", size("resident"))
    yield Row("  peak", lambda c: f"{c.sizes.vllm + c.sizes.resident:.2f}", "generation")
    yield None
    if config.trainer.device != "cpu":
        yield Row("in both below: of vLLM", size("sleeping"))
    yield Row("old log-probs: peak", size("log_prob_peak"), "log-probs")
    yield None
    yield Row("update: tokens at once", lambda c: f"{c.sizes.tokens:,}")
    yield Row("  of these with logits", lambda c: f"{c.sizes.logit_tokens:,.0f}")
    yield Row("  weights", size("weights"))
    yield Row("  gradients", size("gradients"))
    yield Row("  optimizer", size("optimizer"))
    yield Row("  gathered layers", size("gathered"))
    chosen = config.actor_rollout_ref.model.enable_gradient_checkpointing
    for on in (chosen, not chosen):
        what = "with" if on else "without"
        yield Row(f"  kept, {what} checkpointing", other(checkpointing(on), "kept"))
    yield Row("  + a layer's backward", size("working"))
    chosen_engine = estimate(config, model, gpu_gib, n_gpus(config)).engine
    yield Row(f"  or logits, {chosen_engine}", size("logits"))
    for name in ENGINES:
        if name != chosen_engine and not unsupported_reasons(name, config, model.config):
            yield Row(f"     ({name})", other(engine(name), "logits"))
    yield Row("  peak", size("update_peak"), "update")
    yield Row(f"  peak {'without' if chosen else 'with'} it", other(checkpointing(not chosen), "update_peak"))
    yield None
    yield Row("fits", lambda c: "no: " + ", ".join(shortage.phase for shortage in c.short) if c.short else "yes")


def _sequences(column: AtLength) -> str:
    longest = column.prompt + column.config.data.max_response_length
    return f"{column.sizes.kv_tokens / longest:.1f}"


def _notes(config: DictConfig, sizes: Sizes) -> Iterator[str]:
    group = (
        "one group, or if that does not fit one longest row" if sizes.engine == "shared_prompt" else "one longest row"
    )
    yield (
        f"Tokens at once: as set, and for other lengths {group}, over the sequence parallel GPUs "
        f"({parallel(config).sequence}). With logits: where prompts are half as long on average. A peak is of a "
        "moment, no sum: the layers go backward when the logits are gone."
    )
