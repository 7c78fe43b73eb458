"""The run that needs nothing: build the demo's assets, then train on them like on any other model and data.

`python -m recipe.longrl.demo.run [--dry-run] [hydra overrides...]`, which is what `bash run_longrl.sh` calls when no
environment is set. `trainer.experiment_name=NAME` gives a run of another name on the same assets.
"""

import sys
from pathlib import Path

import torch

from recipe.longrl import main as longrl_main
from recipe.longrl.demo.build import BuildConfig, build
from recipe.longrl.demo.grounded.build import GroundedBuild

ASSETS = Path("outputs/demo/assets")


def overrides(assets: Path, model: str = "demo") -> list[str]:
    """Hydra overrides that train a build's model on its data; model: the group of its world's settings."""
    files = [f"data.{split}_files=[{assets / f'{split}.parquet'}]" for split in ("train", "val")]
    return [f"model={model}", *files, f"actor_rollout_ref.model.path={assets / 'model'}"]


def run(config: BuildConfig, assets: Path, defaults: list[str]) -> None:
    """Build if needed, then hand over to `recipe.longrl.main` with `defaults` ahead of the user's overrides."""
    given = sys.argv[1:]
    hardware = "1gpu" if torch.cuda.is_available() else "cpu"
    groups = {argument.partition("=")[0] for argument in given}  # a group may be named once
    ours = [o for o in (*defaults, f"hardware={hardware}") if o.partition("=")[0] not in groups]
    arguments = [*ours, *given]
    if not {"--help", "-h", "--config"} & set(given):
        longrl_main.compose(arguments)  # a mistyped override is named before two minutes of building
        print(f"demo: documents, tokenizer and warm-started model in {assets}", flush=True)
        build(config, assets)
    longrl_main.main(arguments)


if __name__ == "__main__":
    run(GroundedBuild(), ASSETS, overrides(ASSETS))
