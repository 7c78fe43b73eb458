"""The run that needs nothing: build the demo's assets, then train on them like on any other model and data.

`python -m recipe.longrl.demo.run [--dry-run] [hydra overrides...]`, which is what `bash run_longrl.sh` calls when
neither data nor a model is named. `trainer.experiment_name=NAME` gives a run of another name on the same assets.
"""

import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf

from recipe.longrl import command_flags, settings
from recipe.longrl import main as longrl_main
from recipe.longrl.demo.build import BuildConfig, build
from recipe.longrl.demo.grounded.build import GroundedBuild

ASSETS = Path("outputs/demo/assets")
HELP = """usage: {command} [--dry-run] [--config] [--version] [--help] [hydra overrides...]

Trains a tiny model on a tiny world of its own, on the CPU or on one GPU: needs no data and no model. It first builds
both in {assets}, once, in a few minutes (with --dry-run, too), and writes the run to outputs/{name}.

  --dry-run          build, check everything, start no training
  --config           print the resolved configuration (--config=changed: what differs from the defaults), build nothing
  --version          versions of LongRL and of what it runs on
  --help             this text

overrides:  trainer.total_training_steps=10   longrl.reward.eta=0.2   trainer.experiment_name=NAME   hardware=cpu|1gpu
            and any other key of recipe.longrl.main, except those that name a model or data: for a run on your own,
            python -m recipe.longrl.main --help
"""


def overrides(assets: Path, model: str = "demo") -> list[str]:
    """Hydra overrides that train a build's model on its data; model: the group of its world's settings."""
    files = [f"data.{split}_files=[{assets / f'{split}.parquet'}]" for split in ("train", "val")]
    return [f"model={model}", *files, f"actor_rollout_ref.model.path={assets / 'model'}"]


def run(config: BuildConfig, assets: Path, defaults: list[str]) -> None:
    """Build if needed, then hand over to `recipe.longrl.main` with `defaults` ahead of the user's overrides."""
    given = sys.argv[1:]
    hardware = "1gpu" if torch.cuda.is_available() else "cpu"
    try:
        asked, own = command_flags.split(given, longrl_main.FLAGS)
        groups = {override.partition("=")[0] for override in own}  # a group may be named once
        arguments = [*(o for o in (*defaults, f"hardware={hardware}") if o.partition("=")[0] not in groups), *given]
        if asked & {"--help", "-h"}:
            print(HELP.format(command=f"python -m {_module()}", assets=assets, name=assets.parent.name))
            return
        if "--version" not in asked:
            _refuse_others(own, defaults)
        if not asked & {"--config", "--config=changed", "--version"}:
            # what is mistyped is named before minutes of building
            settings.compose([argument for argument in arguments if argument not in asked])
            print(f"demo: documents, tokenizer and warm-started model in {assets}", flush=True)
            build(config, assets)
    except settings.SettingsError as error:
        longrl_main.refuse(error)
    except FileExistsError as error:  # of the build
        longrl_main.refuse(settings.SettingsError(str(error)))
    longrl_main.main(arguments)


def _module() -> str:
    """The demo's module, as `python -m` was given it."""
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "recipe.longrl.demo.run"


def _refuse_others(own: list[str], defaults: list[str]) -> None:
    """Raises SettingsError where the user's overrides name data, or a model that is not the demo's, in whatever way."""
    models = [override for override in own if override.lstrip("+").startswith("model=")]
    others = [override for override in models if f"model={_value(override)}" not in defaults]
    groups = [o for o in defaults if o.startswith("method=") and not any(g.startswith("method=") for g in own)]
    composed = settings.compose([*groups, *(override for override in own if override not in models)])
    others += [f"{key}={value}" for key in settings.REQUIRED if (value := OmegaConf.select(composed, key))]
    if others:
        raise settings.SettingsError(
            f"{', '.join(others)}: the demo trains its own model on its own data. For another: the same overrides with "
            "python -m recipe.longrl.main, or bash run_longrl.sh"
        )


def _value(override: str) -> str:
    return override.partition("=")[2].strip("'\"")


if __name__ == "__main__":
    run(GroundedBuild(), ASSETS, overrides(ASSETS))
