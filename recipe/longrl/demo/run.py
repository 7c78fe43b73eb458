"""The run that needs neither data nor a model: build the demo's assets, then train on them.

`python -m recipe.longrl.demo.run [--dry-run] [hydra overrides...]`, which `bash run_longrl.sh` calls when neither data
nor a model is named. `trainer.experiment_name=NAME` starts another run on the same assets.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf

from recipe.longrl import command_flags, settings
from recipe.longrl import main as longrl_main
from recipe.longrl.demo.assets import WorldBuild, build_assets
from recipe.longrl.demo.grounded.build import GroundedBuild

ASSETS = Path("outputs/demo/assets")
_HELP = """usage: python -m {module} [--dry-run] [--config] [--version] [--help] [hydra overrides...]

Trains a tiny model on a tiny synthetic world, on the CPU or on one GPU. Data and model are built in {assets} at the
first start, in a few minutes (also with --dry-run). The run is written to outputs/{name}.

  --dry-run          build, check everything, start no training
  --config           print the resolved configuration (--config=changed: only changed settings), build nothing
  --version          print the versions of LongRL and its main dependencies
  --help             print this text

overrides:  trainer.total_training_steps=10   longrl.reward.eta=0.2   trainer.experiment_name=NAME   hardware=cpu|1gpu
            and any other key of recipe.longrl.main, except those that name a model or data. To train your own model:
            python -m recipe.longrl.main --help
"""


def describe_options(module: str, assets: Path) -> str:
    """The help of a demo: the module of its command, and the folder of its assets."""
    return _HELP.format(module=module, assets=assets, name=assets.parent.name)


HELP = describe_options("recipe.longrl.demo.run", ASSETS)


def overrides(assets: Path, model: str = "demo") -> list[str]:
    """Hydra overrides that train a build's model on its data. model: the group with the settings of its world."""
    files = [f"data.{split}_files=[{assets / f'{split}.parquet'}]" for split in ("train", "val")]
    return [f"model={model}", *files, f"actor_rollout_ref.model.path={assets / 'model'}"]


def check_training(user_overrides: list[str], defaults: list[str], arguments: list[str]) -> None:
    """Raises SettingsError where the overrides name other data or another model, or do not compose."""
    _refuse_other_assets(user_overrides, defaults)
    settings.compose(arguments)


def run(
    config: WorldBuild,
    assets: Path,
    defaults: list[str],
    *,
    help_text: str,
    flags: tuple[str, ...] = longrl_main.FLAGS,
    check: Callable[[list[str], list[str], list[str]], None] = check_training,
    start: Callable[[list[str]], None] = longrl_main.main,
) -> None:
    """Build the assets if needed, then call `start` with `defaults` before the overrides of the command line.

    help_text, flags: of the command line. check: called with the user's overrides, `defaults`, and all overrides, so
    that mistakes are reported before minutes of building.
    """
    arguments = sys.argv[1:]
    hardware = "1gpu" if torch.cuda.is_available() else "cpu"
    try:
        given_flags, user_overrides = command_flags.split_flags(arguments, flags)
        # Hydra allows each group once, so the user's choice replaces the default.
        keys = {override.partition("=")[0] for override in user_overrides}
        arguments = [*(o for o in (*defaults, f"hardware={hardware}") if o.partition("=")[0] not in keys), *arguments]
        if given_flags & {"--help", "-h"}:
            print(help_text)
            return
        if "--version" not in given_flags:
            check(user_overrides, defaults, [argument for argument in arguments if argument not in given_flags])
            if not given_flags & {"--config", "--config=changed"}:
                print(f"demo: documents, tokenizer and warm-started model in {assets}", flush=True)
                build_assets(config, assets)
    except (settings.SettingsError, FileExistsError) as error:
        longrl_main.refuse(error)
    start(arguments)


def _refuse_other_assets(user_overrides: list[str], defaults: list[str]) -> None:
    """Raises SettingsError where the overrides name data, or a model that is not the demo's, in whatever form."""
    models = [override for override in user_overrides if override.lstrip("+").startswith("model=")]
    others = [override for override in models if f"model={_value(override)}" not in defaults]
    if any(override.startswith("method=") for override in user_overrides):
        methods = []
    else:
        methods = [override for override in defaults if override.startswith("method=")]
    composed = settings.compose([*methods, *(override for override in user_overrides if override not in models)])
    others += [f"{key}={value}" for key in settings.REQUIRED if (value := OmegaConf.select(composed, key))]
    if others:
        raise settings.SettingsError(
            f"{', '.join(others)}: the demo trains its own model on its own data. Fix: use the same overrides with "
            "python -m recipe.longrl.main, or bash run_longrl.sh"
        )


def _value(override: str) -> str:
    return override.partition("=")[2].strip("'\"")


def main() -> None:
    """The command line."""
    run(GroundedBuild(), ASSETS, overrides(ASSETS), help_text=HELP)


if __name__ == "__main__":
    main()
