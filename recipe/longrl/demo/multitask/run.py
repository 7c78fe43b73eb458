"""GoLongRL on the CPU: `python -m recipe.longrl.demo.multitask.run [--dry-run] [hydra overrides...]`.

Builds the multi-task world in outputs/demo_multitask/assets, then trains on its five tasks with TMN-Reweight, or with
longrl.advantage.estimator=upstream by plain GRPO.
"""

from pathlib import Path

from recipe.longrl.demo.multitask.build import MultitaskBuild
from recipe.longrl.demo.run import describe_options, overrides, run

ASSETS = Path("outputs/demo_multitask/assets")
HELP = describe_options("recipe.longrl.demo.multitask.run", ASSETS)


def main() -> None:
    """The command line."""
    run(MultitaskBuild(), ASSETS, ["method=golongrl", *overrides(ASSETS, "demo_multitask")], help_text=HELP)


if __name__ == "__main__":
    main()
