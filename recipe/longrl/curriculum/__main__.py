"""`python -m recipe.longrl.curriculum`: train in stages, each from the weights that the stage before exported.

Every stage is an ordinary run of `recipe.longrl.main` in its own folder, with its own checks, checkpoints and report; a
stage with `sft` is one of `recipe.longrl.sft`. A stage with mining first mines its training rows with the weights that
it starts from. All stages are checked before the first one starts. If the curriculum is killed, rerun the same command:
it resumes where it stopped.
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

from recipe.longrl import command_flags, preflight, run_lock, settings
from recipe.longrl.curriculum import mining, plan, report
from recipe.longrl.main import refuse
from recipe.longrl.override_files import write_value
from recipe.longrl.sft.checks import check_run
from recipe.longrl.sft.options import as_arguments

HELP = """usage: python -m recipe.longrl.curriculum [--dry-run] [--help] [curriculum=NAME|FILE.yaml] [overrides...]

  --dry-run    check every stage, start nothing
  --version    versions of LongRL and of what it runs on
  curriculum=  loongrl-7b (default), loongrl-14b, or your own file with stages in order, each with
               overrides: [...] and, to train only on mined rows, mine: {rollouts: 8, drop_unsolved: false}
               or, for supervised fine-tuning, sft: {train_files: [demos.parquet], steps: 10}
  overrides    Hydra's, for all stages; prefixed with a stage's name for that stage: stage1.trainer.total_epochs=2

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
        flags, overrides = command_flags.split_flags(arguments, FLAGS)
    except settings.SettingsError as error:
        refuse(error)
    if command_flags.answer_flags(flags, HELP):
        return
    dry_run = "--dry-run" in flags
    curriculum = read_or_exit(overrides)
    try:
        with nullcontext() if dry_run else run_lock.hold([curriculum.folder]):
            # All stages are checked, also after one that fails.
            passed = [_check_stage(curriculum, stage, show=dry_run) for stage in curriculum.stages]
            if not all(passed):
                print("preflight failed, nothing was started: see the lines marked FAIL", file=sys.stderr)
                sys.exit(2)
            if not dry_run:
                run_stages(curriculum, shlex.join(["python", "-m", "recipe.longrl.curriculum", *overrides]))
    except (settings.SettingsError, FolderInUse) as error:
        refuse(error)


def read_or_exit(overrides: list[str]) -> plan.CurriculumPlan:
    """The plan of these overrides; one that cannot be composed exits with a plain message and status 2."""
    try:
        return plan.read_plan(overrides)
    except settings.SettingsError as error:
        refuse(error)


def run_stages(curriculum: plan.CurriculumPlan, command: str) -> None:
    """Run the stages that are not done, then write the report. Exits with the status of a stage that fails."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for number, stage in enumerate(curriculum.stages, start=1):
        title = f"stage {number} of {len(curriculum.stages)}, {stage.name}"
        if stage.marker.is_file():
            print(f"=== {title}: already done, {stage.export}", flush=True)
            continue
        print(f"=== {title}", flush=True)
        started = time.monotonic()
        overrides = list(stage.overrides)
        if stage.sft is not None:
            overrides += as_arguments(stage.sft)
            _run_module("recipe.longrl.sft", overrides)
        else:
            if stage.mine is not None:
                options = [f"mine.{key}={value}" for key, value in vars(stage.mine).items() if value is not None]
                _run_module("recipe.longrl.curriculum.mining", [*overrides, *options])
                overrides.append(_train_on_mined_files(stage))
            _run_module("recipe.longrl.main", overrides)
        done = {"overrides": overrides, "seconds": round(time.monotonic() - started, 1)}
        write_atomic(stage.marker, json.dumps(done, indent=2) + "\n")
    report.write_report(curriculum, command)


def _check_stage(curriculum: plan.CurriculumPlan, stage: plan.CurriculumStage, show: bool) -> bool:
    """Whether a stage can run, as far as that can be known before the stages ahead of it have run."""
    config = stage.config.copy()
    try:
        with open_dict(config):
            if stage.initial_weights is not None and not stage.initial_weights.is_dir():
                # They will have the shape of the model that the first stage starts from.
                config.actor_rollout_ref.model.path = curriculum.stages[0].config.actor_rollout_ref.model.path
            if stage.sft is not None:
                checks = check_run(config, stage.sft, dry_run=True).checks
            else:
                settings.resolve(config, dry_run=True)
                if stage.mine is not None and mining.is_finished(config):
                    config.data.train_files = [str(path) for path in mining.kept_files(config)]
                checks = preflight.run(config, dry_run=True)
    except (settings.SettingsError, mining.MiningError) as error:
        raise settings.SettingsError(
            f"stage {stage.name}: {error}; for this stage alone: {stage.name}.KEY=VALUE"
        ) from error
    if show or preflight.failed(checks):
        preflight.show(config, checks)
    else:
        warnings = sum(check.status == "warn" for check in checks)
        print(f"stage {stage.name}: checked{f', {warnings} warnings' if warnings else ''}", flush=True)
    return not preflight.failed(checks)


def _train_on_mined_files(stage: plan.CurriculumStage) -> str:
    """The override that names the stage's mined files."""
    config = stage.config.copy()
    settings.resolve(config, dry_run=True)
    return f"data.train_files={write_value([str(path) for path in mining.kept_files(config)])}"


def _run_module(module: str, overrides: list[str]) -> None:
    """Run a module to its end; exits when it fails. If this process is interrupted or terminated, so is the module."""
    process = subprocess.Popen([sys.executable, "-m", module, *overrides])
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status:
        print(f"{module} exited with status {status}. Rerun the same command to resume", file=sys.stderr, flush=True)
        # A negative status is the number of the signal that ended it; shells write 128 + signal.
        sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    main()
