"""The memory calculator: python -m recipe.longrl.memory model=... hardware=... [Hydra overrides...]

Needs no data, no GPU, no weights, and for the models of `config/model/` no network.
"""

import sys
from typing import Annotated

import typer

from recipe.longrl import derived_settings, settings
from recipe.longrl.memory import shapes, table
from recipe.longrl.memory.lengths import LENGTHS
from recipe.longrl.override_files import expand_files

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

PLACEHOLDERS = ["data.train_files=[none.parquet]", "data.val_files=[none.parquet]"]
HELP = """Predict the peak memory of each phase of a step, per GPU, at several prompt lengths.

Needs no data, no GPU and no weights, and no network for the models that model=... knows. For any other model, set
actor_rollout_ref.model.path to its folder, to a JSON file like its config.json, or to its name on the hub. The memory
of a GPU is that of the GPU in this machine, or longrl.gpu_memory_gib=80 without one.

Examples: model=qwen2.5-7b-1m hardware=8gpu; model=qwen3-4b hardware=1gpu longrl.engine=upstream
actor_rollout_ref.rollout.n=16
"""


@app.command(help=HELP)
def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, as for recipe.longrl.main.")] = None,
    lengths: Annotated[str, typer.Option(help="Prompt lengths in tokens; K means 1024.")] = ",".join(
        map(table.format_tokens, LENGTHS)
    ),
) -> None:
    """The command line."""
    try:
        prompt_lengths = tuple(parse_length(text) for text in lengths.split(","))
        config = settings.compose([*PLACEHOLDERS, *expand_files(overrides or [])])
        settings.require_given(config)
        # A full resolution would write into the output folder, and changes no size.
        settings.resolve(config, dry_run=True, partial=True)
        shape = shapes.read_shape(config.actor_rollout_ref.model)
        chosen = [
            *derived_settings.derive_lengths(config, shape.config, lambda _: None),
            *derived_settings.derive_sizes(config, shape.config),
        ]
    except (settings.SettingsError, shapes.ShapeError) as error:
        print(f"configuration error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    for choice in chosen:
        print(f"{choice.name}: {choice.detail}")
    table.print_table(config, shape, prompt_lengths)


def parse_length(text: str) -> int:
    """The number of tokens in "16K", "131072", ..."""
    number = text.strip().upper()
    digits = number.removesuffix("K")
    if not digits.isdigit() or int(digits) < 1:
        raise settings.SettingsError(f"--lengths = {text!r}: expected numbers of tokens such as 16K,32K or 100000")
    return int(digits) * (1024 if number.endswith("K") else 1)


if __name__ == "__main__":
    app()
