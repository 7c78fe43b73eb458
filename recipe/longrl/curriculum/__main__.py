"""`python -m recipe.longrl.curriculum`: stages of training, each from what the one before exported.

Every stage is an ordinary run of `recipe.longrl.main` in a folder of its own, with its own checks, checkpoints and
report; a stage that mines does so first, with the weights it begins with. All stages are checked before the first
starts. What is done is done: killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

from omegaconf import open_dict
from verl_longrl.folder_lock import FolderInUse
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl import command_flags, preflight, settings
from recipe.longrl.curriculum import mining, plan, report
from recipe.longrl.main import refuse
from recipe.longrl.run_lock import alone

HELP = """usage: python -m recipe.longrl.curriculum [--dry-run] [--help] [curriculum=NAME|FILE.yaml] [overrides...]

  --dry-run    check every stage, start nothing
  --version    versions of LongRL and of what it runs on
  curriculum=  loongrl-7b (default), loongrl-14b, or a file of your own: stages in order, each with
               overrides: [...] and, to train on mined rows only, mine: {rollouts: 8, drop_unsolved: false}
  overrides    Hydra's, for all stages; with a stage's name in front for that stage: stage1.trainer.total_epochs=2

example: python -m recipe.longrl.curriculum model=qwen2.5-7b-1m hardware=8gpu trainer.experiment_name=loongrl
           data.val_files=[val.parquet] warmup.data.train_files=[plain.parquet]
           stage1.data.train_files=[plain.parquet,keychain.parquet] stage2.data.train_files=[plain.parquet,hard.parquet]

The run's folder (outputs/NAME) has one folder per stage, summary.json, and a plot over all stages.
"""
FLAGS = ("--dry-run", "--version", "--help", "-h")


def main(arguments: list[str] | None = None) -> None:
    """The command line; a plan that cannot run exits with a plain message and status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        asked, overrides = command_flags.split(arguments, FLAGS)
    except settings.SettingsError as error:
        refuse(error)
    if command_flags.answered(asked, HELP):
        return
    dry_run = "--dry-run" in asked
    stages = read(overrides)
    try:
        with nullcontext() if dry_run else alone([stages.folder]):
            good = [_check(stages, stage, show=dry_run) for stage in stages.stages]  # all are shown
            if not all(good):
                print("preflight failed, nothing was started: see the lines marked FAIL", file=sys.stderr)
                sys.exit(2)
            if not dry_run:
                run(stages, shlex.join(["python", "-m", "recipe.longrl.curriculum", *overrides]))
    except (settings.SettingsError, FolderInUse) as error:
        refuse(error)


def read(overrides: list[str]) -> plan.Plan:
    """The plan of these overrides; one that cannot be composed exits with a plain message and status 2."""
    try:
        return plan.read(overrides)
    except settings.SettingsError as error:
        refuse(error)


def run(stages: plan.Plan, command: str) -> None:
    """All stages, then the report. Exits with a stage's status when it fails."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for number, stage in enumerate(stages.stages, start=1):
        title = f"stage {number} of {len(stages.stages)}, {stage.name}"
        if stage.marker.is_file():
            print(f"=== {title}: done before, {stage.export}", flush=True)
            continue
        print(f"=== {title}", flush=True)
        started = time.monotonic()
        overrides = list(stage.overrides)
        if stage.mine is not None:
            options = [f"mine.{key}={'null' if value is None else value}" for key, value in vars(stage.mine).items()]
            _call("recipe.longrl.curriculum.mining", [*overrides, *options])
            overrides += _mined(stage)
        _call("recipe.longrl.main", overrides)
        done = {"overrides": overrides, "seconds": round(time.monotonic() - started, 1)}
        write_atomic(stage.marker, json.dumps(done, indent=2) + "\n")
    report.write(stages, command)


def _check(stages: plan.Plan, stage: plan.Stage, show: bool) -> bool:
    """Whether a stage could run: with what is not there yet (weights, mined rows), what it will be made of."""
    config = stage.config.copy()
    try:
        with open_dict(config):
            if stage.before is not None and not stage.before.is_dir():
                config.actor_rollout_ref.model.path = stages.stages[0].config.actor_rollout_ref.model.path
            settings.resolve(config, dry_run=True)
            if stage.mine is not None and mining.finished(config):
                config.data.train_files = [str(path) for path in mining.kept_files(config)]
    except (settings.SettingsError, mining.MiningError) as error:
        raise settings.SettingsError(
            f"stage {stage.name}: {error}; for this stage alone: {stage.name}.KEY=VALUE"
        ) from error
    checks = preflight.run(config, dry_run=True)
    if show or preflight.failed(checks):
        preflight.show(config, checks)
    else:
        warnings = sum(check.status == "warn" for check in checks)
        print(f"stage {stage.name}: checked{f', {warnings} warnings' if warnings else ''}", flush=True)
    return not preflight.failed(checks)


def _mined(stage: plan.Stage) -> list[str]:
    config = stage.config.copy()
    settings.resolve(config, dry_run=True)
    files = ",".join(plan.quoted(path) for path in mining.kept_files(config))
    return [f"data.train_files=[{files}]"]


def _call(module: str, overrides: list[str]) -> None:
    """Run a module to its end; exits as it does. When this process is interrupted or terminated, it is too."""
    process = subprocess.Popen([sys.executable, "-m", module, *overrides])
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status:
        print(f"{module} ended with status {status}; the same command goes on from here", file=sys.stderr, flush=True)
        sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    main()
