"""`python -m recipe.longrl.sft [--dry-run] sft.train_files=[demos.parquet] [sft.KEY=VALUE...] [hydra overrides...]`.

Supervised fine-tuning on demonstrations, for a cold start. The run is checked as a whole, trained by verl's SFT trainer
under torchrun, exported as a Hugging Face folder and reported. If it is killed, rerun the same command: it resumes from
the newest complete checkpoint, with the rows that it would have seen.
"""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl import secrets
from verl_longrl.folder_lock import FolderInUse
from verl_longrl.trainer import checkpoints, checksums, safe_loading
from verl_longrl.trainer.checkpoints import CheckpointError
from verl_longrl.trainer.interruption import STOP_FILE
from verl_longrl.trainer.write_access import allow_only_owner_to_write, checkpoint_problem

from recipe.longrl import (
    command_flags,
    console,
    export,
    preflight,
    run_identity,
    run_lock,
    run_record,
    settings,
    signals,
    stale_files,
)
from recipe.longrl.main import INTERRUPTED, refuse
from recipe.longrl.parallelism import n_gpus
from recipe.longrl.sft import report
from recipe.longrl.sft.checks import CheckedRun, check_run
from recipe.longrl.sft.options import split_options
from recipe.longrl.sft.ranks import run_ranks

HELP = """usage: python -m recipe.longrl.sft [--dry-run] [--version] [--help] sft.train_files=[FILE] [overrides...]

  --dry-run          check everything, start nothing
  --version          print the versions of LongRL and its main dependencies

required:   sft.train_files=[demos.parquet] and, with model=custom, actor_rollout_ref.model.path=...
options:    sft.val_files=[held_out.parquet]  sft.lr=1e-5  sft.batch_size=32  sft.epochs=1  sft.steps=N
            sft.schedule=cosine|constant  sft.warmup_steps=N  sft.weight_decay=X  sft.save_freq=N  sft.test_freq=N
            sft.max_imperfect=N   demonstrations with less than full marks that are accepted
overrides:  those of recipe.longrl.main for the model, hardware and folders: model=NAME hardware=8gpu|1gpu|cpu
            trainer.experiment_name=NAME data.max_response_length=N longrl.reward.KEY=VALUE

example:    python -m recipe.longrl.sft model=smollm2-135m hardware=cpu
              sft.train_files=[demos.parquet] sft.steps=10 sft.batch_size=8 sft.lr=5e-5 trainer.experiment_name=cold

The run's folder (outputs/NAME) has checkpoints/, export/, metrics.jsonl, summary.json and a plot. Training starts from
outputs/NAME/export with python -m recipe.longrl.main actor_rollout_ref.model.path=outputs/NAME/export.

to stop:    SIGTERM or SIGUSR1, or `touch outputs/NAME/stop`: saves a checkpoint after the step, exits with status 75
status:     as recipe.longrl.main --help lists
"""
FLAGS = ("--dry-run", "--version", "--help", "-h")


def main(arguments: list[str] | None = None) -> None:
    """The command line; a run that cannot start exits with a plain message and status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.excepthook = console.show_error
    try:
        flags, rest = command_flags.split_flags(arguments, FLAGS)
        if command_flags.answer_flags(flags, HELP):
            return
        dry_run = "--dry-run" in flags
        options, overrides = split_options(rest)
        config = settings.compose(overrides)
        if not dry_run and not config.longrl.trust_folder:
            allow_only_owner_to_write()
        with nullcontext() if dry_run else run_lock.hold(settings.run_folders(config)):
            checked = check_run(config, options, dry_run)
            preflight.show(config, checked.checks)
            if preflight.failed(checked.checks):
                print("preflight failed, nothing was started: see the lines marked FAIL", file=sys.stderr)
                sys.exit(2)
            if not dry_run:
                train(config, checked, shlex.join(["python", "-m", "recipe.longrl.sft", *rest]))
    except (settings.SettingsError, secrets.SecretsError, FolderInUse) as error:
        refuse(error)


def train(config: DictConfig, checked: CheckedRun, command: str) -> None:
    """Train to the end, resuming from the last checkpoint, then export and report.

    Exits with status 75 where rerunning the command resumes, and with status 1 where the ranks failed.
    """
    started, output_dir = time.time(), Path(config.longrl.output_dir)
    root, steps = Path(config.trainer.default_local_dir), checked.steps
    if (output_dir / run_identity.STORED).is_file():
        (output_dir / STOP_FILE).unlink(missing_ok=True)
    for line in stale_files.remove_stale_files(config):
        print(line)
    run_identity.store_config(config)
    command = secrets.redact(command)
    with run_record.record_run(config, command) as record:
        config.trainer.total_training_steps = steps
        try:
            resume_from = choose_checkpoint(config)
        except CheckpointError as error:
            record.end("refused", str(error))
            print(f"refused: {error}", file=sys.stderr, flush=True)
            sys.exit(2)
        config.trainer.resume_from_path = resume_from and str(resume_from)
        if resume_from is None or checkpoints.step_of(resume_from) != steps:
            signals.save_on_signal(output_dir / STOP_FILE)
            with console.log_output(output_dir / "train.log"):
                print(f"longrl: training {n_gpus(config)} ranks", flush=True)
                if status := run_ranks(config):
                    problem = f"training failed with status {status}: see the end of {output_dir / 'train.log'}"
                    record.end("failed", problem)
                    sys.exit(problem)
            signals.exit_on_signals()
        newest, _ = checkpoints.newest_whole(root)
        done = 0 if newest is None else checkpoints.step_of(newest)
        if done != steps:
            problem = f"saved step {done} of {steps}. Rerun the command to resume from it"
            record.end("interrupted", problem)
            print(f"interrupted: {problem}", file=sys.stderr, flush=True)
            sys.exit(INTERRUPTED)
        not_exported = None
        with export.exit_on_signals():
            if config.longrl.export:
                try:
                    export.export_checkpoint(root, output_dir / "export")
                except CheckpointError as error:
                    not_exported = error
            report.write_report(output_dir, command, time.time() - started)
        if not_exported is not None:
            record.end("complete", f"trained, but not exported: {not_exported}")
            sys.exit(f"trained, but not exported: {not_exported}")


def choose_checkpoint(config: DictConfig) -> Path | None:
    """The checkpoint that this start resumes from, after its content was checked; None to begin.

    A damaged checkpoint of this run no longer counts as complete. Raises CheckpointError when the run must not resume
    from the checkpoint, others can write it, or loading it would run code.
    """
    trainer, root = config.trainer, Path(config.trainer.default_local_dir)

    def find_problem(folder: Path) -> str | None:
        if (reason := checkpoints.find_damage(folder)) is not None:
            return reason
        if not config.longrl.trust_folder and (problem := checkpoint_problem(folder)) is not None:
            raise CheckpointError(problem)
        expected = checkpoints.manifest_of(folder).checkable()
        try:
            damaged = checksums.damaged(folder, expected)
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be read: {error}") from error
        if damaged and folder.parent.resolve() == root.resolve():
            checkpoints.set_aside(folder)
        if not damaged:
            safe_loading.refuse(safe_loading.find_calls(folder, [name for name in expected if name.endswith(".pt")]))
        return "; ".join(damaged) or None

    folder, skipped = checkpoints.to_resume_from(
        trainer.resume_mode, root, trainer.resume_from_path, n_gpus(config), cache(find_problem)
    )
    for line in skipped:
        print(f"resume: {line}", flush=True)
    if folder is not None:
        print(f"resume: continuing from {folder}", flush=True)
    return folder


if __name__ == "__main__":
    main()
