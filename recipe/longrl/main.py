"""`python -m recipe.longrl.main [--dry-run] [hydra overrides...]`: compose, check, train, report.

One configuration goes in (config/longrl_trainer.yaml and its groups), is checked as a whole before any process is
started, and is handed to upstream verl with our task runner. Afterwards the run's folder holds the final weights as
a Hugging Face folder, summary.json and plots. `--dry-run` stops after the checks and needs no GPU. Killed at any
moment, the same command continues from the last whole checkpoint.
"""

import shlex
import sys
import time
from pathlib import Path

import hydra
from omegaconf import DictConfig

from recipe.longrl import console, preflight, report, settings

_HELP = """usage: python -m recipe.longrl.main [--dry-run] [--help] [hydra overrides...]

  --dry-run   resolve and check everything, print sizes, memory estimate and cluster fit, start nothing
  --help      this text; `--cfg job` prints the composed configuration

groups:     method=longrlvr|outcome_only   model=custom|qwen2.5-7b-1m|...   hardware=8gpu|16gpu|1gpu|cpu
needed:     data.train_files=[...] data.val_files=[...] and, with model=custom, actor_rollout_ref.model.path=...
examples:   longrl.reward.eta=0.2   trainer.total_training_steps=200   longrl.reward.answer.by=judge
"""


def main() -> None:
    """The command line; exits with 2 and a plain message on a bad configuration."""
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        print(_HELP)
        return
    dry_run = "--dry-run" in arguments
    sys.argv[1:] = [argument for argument in arguments if argument != "--dry-run"]
    command = shlex.join(["python", "-m", "recipe.longrl.main", *sys.argv[1:]])

    @hydra.main(config_path="config", config_name="longrl_trainer", version_base=None)
    def run(config: DictConfig) -> None:
        try:
            settings.resolve(config)
            checks = preflight.run(config, dry_run)
        except settings.SettingsError as error:
            sys.exit(f"configuration error: {error}")
        preflight.show(config, checks)
        if preflight.failed(checks):
            sys.exit("preflight failed: nothing was started; see the lines marked FAIL")
        if not dry_run:
            train(config, command)

    run()


def train(config: DictConfig, command: str) -> None:
    """Run to the end (or continue), then export and report. Raises what stopped the training."""
    from verl.trainer.main_ppo import run_ppo

    from recipe.longrl.export import export_final
    from verl_longrl.trainer.task_runner import LongRLTaskRunner

    started = time.time()
    output_dir = Path(config.longrl.output_dir)
    with console.logged(output_dir / "train.log"):
        run_ppo(config, task_runner_class=LongRLTaskRunner)
    if config.longrl.export:
        export_final(Path(config.trainer.default_local_dir), output_dir / "export")
    report.write(output_dir, command=command, seconds=time.time() - started)


if __name__ == "__main__":
    main()
