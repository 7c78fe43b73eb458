"""LoongRL's three stages on the CPU: `python -m recipe.longrl.demo.keychain.run [--dry-run] [overrides...]`.

Builds the KeyChain world in outputs/demo_keychain/assets, then runs the curriculum on it (config/curriculum/demo.yaml).
The overrides are those of `recipe.longrl.curriculum`.
"""

from pathlib import Path

from recipe.longrl.curriculum import __main__ as curriculum
from recipe.longrl.demo.keychain.build import KeychainBuild
from recipe.longrl.demo.run import run

ASSETS = Path("outputs/demo_keychain/assets")
HELP = f"{__doc__}\n{curriculum.HELP}"


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


def check_curriculum(user_overrides: list[str], defaults: list[str], arguments: list[str]) -> None:
    """Exits with a plain message where the overrides do not compose."""
    curriculum.read_or_exit(arguments)


def main() -> None:
    """The command line."""
    run(
        KeychainBuild(),
        ASSETS,
        overrides(ASSETS),
        help_text=HELP,
        flags=curriculum.FLAGS,
        check=check_curriculum,
        start=curriculum.main,
    )


if __name__ == "__main__":
    main()
