"""The memory calculator: python -m recipe.longrl.memory model=... hardware=... [hydra overrides...]

Needs no data, no GPU, no weights, and for the models of `config/model/` no network.
"""

import sys
from typing import Annotated

import typer

from recipe.longrl import derived_settings, settings
from recipe.longrl.memory import shapes, table
from recipe.longrl.memory.lengths import LENGTHS

PLACEHOLDERS = ["data.train_files=[none.parquet]", "data.val_files=[none.parquet]"]
HELP = """Predict the peak memory of each phase of a step, per GPU, at several prompt lengths.

Needs no data, no GPU and no weights, and for the models that model=... names no network. Any other model:
actor_rollout_ref.model.path=FOLDER, a JSON file like its config.json, or its name on the hub. GPUs have
longrl.gpu_memory_gib=80 GiB unless there is one here to ask.

Examples: model=qwen2.5-7b-1m hardware=8gpu; model=qwen3-4b hardware=1gpu longrl.engine=upstream
actor_rollout_ref.rollout.n=16
"""


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="As for recipe.longrl.main.")] = None,
    lengths: Annotated[str, typer.Option(help="Prompt tokens, K for 1024.")] = ",".join(map(table.tokens, LENGTHS)),
) -> None:
    try:
        wanted = tuple(length(text) for text in lengths.split(","))
        config = settings.compose([*PLACEHOLDERS, *(overrides or [])])
        settings.require_given(config)
        settings.resolve(config, dry_run=True, partial=True)  # changes no size, and would be written into a folder
        shape = shapes.read(config.actor_rollout_ref.model)
        chosen = [
            *derived_settings.lengths(config, shape.config, lambda _: None),
            *derived_settings.sizes(config, shape.config),
        ]
    except (settings.SettingsError, shapes.ShapeError) as error:
        print(f"configuration error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    for choice in chosen:
        print(f"{choice.name}: {choice.detail}")
    table.show(config, shape, wanted)


def length(text: str) -> int:
    """Tokens of 16K, 131072, ..."""
    number = text.strip().upper()
    whole = number.removesuffix("K")
    if not whole.isdigit() or int(whole) < 1:
        raise settings.SettingsError(f"--lengths {text!r}: expected numbers of tokens such as 16K,32K or 100000")
    return int(whole) * (1024 if number.endswith("K") else 1)


main.__doc__ = HELP

if __name__ == "__main__":
    typer.run(main)
