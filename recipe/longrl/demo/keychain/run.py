"""LoongRL's three stages where there is no GPU: `python -m recipe.longrl.demo.keychain.run [--dry-run] [overrides...]`.

Builds the KeyChain world in outputs/demo_keychain/assets, then runs the curriculum on it as on any other model and data
(config/curriculum/demo.yaml). Overrides are those of `recipe.longrl.curriculum`.
"""

import sys
from pathlib import Path

import torch

from recipe.longrl import command_flags, settings
from recipe.longrl.curriculum import __main__ as curriculum
from recipe.longrl.demo.build import build
from recipe.longrl.demo.keychain.build import KeychainBuild
from recipe.longrl.main import refuse

ASSETS = Path("outputs/demo_keychain/assets")


def overrides(assets: Path) -> list[str]:
    """The curriculum's overrides that train a build's model on its data."""
    files = {"warmup": "plain", "stage1": "plain,keychain", "stage2": "plain,hard"}
    return [
        "curriculum=demo",
        "model=demo_keychain",
        f"actor_rollout_ref.model.path={assets / 'model'}",
        f"data.val_files=[{assets / 'val.parquet'}]",
        *(
            f"{stage}.data.train_files=[{','.join(str(assets / f'{name}.parquet') for name in names.split(','))}]"
            for stage, names in files.items()
        ),
    ]


def main() -> None:
    """Build if needed, then hand over to `recipe.longrl.curriculum` with the demo's overrides ahead of the user's."""
    given = sys.argv[1:]
    try:
        asked, own = command_flags.split(given, curriculum.FLAGS)
    except settings.SettingsError as error:
        refuse(error)
    if asked & {"--help", "-h"}:
        print(f"{__doc__}\n{curriculum.HELP}")
        return
    if "--version" in asked:
        print(command_flags.versions())
        return
    hardware = "1gpu" if torch.cuda.is_available() else "cpu"
    groups = {argument.partition("=")[0] for argument in given}  # a group may be named once
    ours = [o for o in (*overrides(ASSETS), f"hardware={hardware}") if o.partition("=")[0] not in groups]
    curriculum.read([*ours, *own])  # a typo is named at once
    print(f"demo: texts, tokenizer and warm-started model in {ASSETS}", flush=True)
    build(KeychainBuild(), ASSETS)
    curriculum.main([*ours, *given])


if __name__ == "__main__":
    main()
