"""`python -m recipe.longrl.main [--dry-run] [hydra overrides...]`: compose, check, train, report.

One configuration goes in (config/longrl_trainer.yaml and its groups), is checked as a whole before any process is
started, and is handed to verl with our task runner. Afterwards the run's folder holds the final weights as
a Hugging Face folder, summary.json and plots. `--dry-run` stops after the checks and needs no GPU. Killed at any
moment, the same command continues from the last whole checkpoint; asked to stop (`signals.py`), or when a part of it
dies, the run saves one and exits with status 75.
"""

import os
import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig, OmegaConf
from verl_longrl import secrets
from verl_longrl.data.jsonl import is_disk_full
from verl_longrl.folder_lock import FolderInUse
from verl_longrl.trainer.write_access import only_the_owner_writes

from recipe.longrl import (
    command_flags,
    console,
    gcs_watch,
    preflight,
    provenance,
    ray_token,
    report,
    run_identity,
    settings,
    signals,
    worker_env,
)
from recipe.longrl.local_ray import own_ray
from recipe.longrl.memory import table
from recipe.longrl.run_lock import alone

HELP = """usage: python -m recipe.longrl.main [--dry-run] [--config] [--version] [--help] [hydra overrides...]

  --dry-run          check everything, print the plan, memory estimate and cluster fit, start nothing
  --config           print the resolved configuration, LongRL's own block first; needs no data and no model
                     (with --dry-run: before the checks)
  --config=changed   the same, only what differs from the defaults
  --version          versions of LongRL and of what it runs on
  --help             this text

groups:     method=longrlvr|outcome_only|loongrl|golongrl   model=custom|qwen2.5-7b-1m|...
            hardware=8gpu|16gpu|128gpu|1gpu|cpu
needed:     data.train_files=[...] data.val_files=[...] and, with model=custom, actor_rollout_ref.model.path=...
examples:   longrl.reward.eta=0.2   trainer.total_training_steps=200   longrl.reward.answer.by=judge

to stop:    SIGTERM, SIGUSR1 or `touch OUTPUT_DIR/stop`: the run saves a checkpoint, at once while rollouts are
            generated, else at the end of the step, and ends with status 75
status:     0 trained to the end; 2 refused, nothing was started (another process works in the folder, say); 75 stopped,
            a part of the run died, a disk is full, or the judge was away for long: the same command goes on from the
            last checkpoint; 143 or 138 ended at once by a second signal; 1 the same command would end so again: too
            many failed scores, no signal, numbers of broken weights (not saved; the message names the last good
            checkpoint), or an error
"""
INTERRUPTED = os.EX_TEMPFAIL
FLAGS = ("--dry-run", "--config", "--config=changed", "--version", "--help", "-h")


def main(arguments: list[str] | None = None) -> None:
    """The command line; a configuration that cannot run exits with a plain message and status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.excepthook = console.show_error
    try:
        asked, overrides = command_flags.split(arguments, FLAGS)
        if command_flags.answered(asked, HELP):
            return
        dry_run, shown = "--dry-run" in asked, asked & {"--config", "--config=changed"}
        config = settings.compose(overrides)
        if not dry_run and not shown and not config.longrl.trust_folder:
            only_the_owner_writes()
        with nullcontext() if dry_run or shown else alone(settings.run_folders(config)):
            settings.resolve(config, dry_run=dry_run or bool(shown), partial=bool(shown) and not dry_run)
            if shown:
                print(settings.as_yaml(config, changed="--config=changed" in shown))
                if not dry_run:
                    return
            _check_and_train(config, dry_run, shlex.join(["python", "-m", "recipe.longrl.main", *overrides]))
    except (settings.SettingsError, secrets.SecretsError, FolderInUse) as error:
        refuse(error)
    except Exception as error:
        if not is_disk_full(error):
            raise
        cause = getattr(error, "cause", error)  # of an error of Ray's
        print(f"interrupted: {cause}. Free some room, and repeat the command", file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)


def refuse(error: Exception) -> NoReturn:
    """Say in one line why nothing is started, and exit with status 2."""
    what = "not started" if isinstance(error, FolderInUse) else "configuration error"
    print(f"{what}: {error}", file=sys.stderr)
    sys.exit(2)


def _check_and_train(config: DictConfig, dry_run: bool, command: str) -> None:
    with own_ray(config) if not dry_run else nullcontext() as python:
        checks = preflight.run(config, dry_run, python)
        preflight.show(config, checks)
        if dry_run:
            table.print_table_if_readable(config)
        if preflight.failed(checks):
            print("preflight failed, nothing was started: see the lines marked FAIL", file=sys.stderr)
            sys.exit(2)
        if not dry_run:
            train(config, command, python)


def train(config: DictConfig, command: str, python: str | None = None) -> None:
    """Run to the end (or resume), then export and report. python: what Ray starts workers with, if not this one.

    Raises SecretsError when the keys cannot be handed to the workers, and what stopped the training; exits with status
    75 where the same command will resume.
    """
    from verl_longrl.trainer.checkpoints import CheckpointError
    from verl_longrl.trainer.interruption import STOP_FILE

    from recipe.longrl import export, stale_files

    started = time.time()
    output_dir = Path(config.longrl.output_dir)
    if (output_dir / run_identity.STORED).is_file():  # else it is not ours
        (output_dir / STOP_FILE).unlink(missing_ok=True)
    for line in stale_files.sweep(config):
        print(line)
    run_identity.store(config)
    command = secrets.redact(command)
    provenance.record(output_dir, command)
    with worker_env.carrying(config) as names, console.logged(output_dir / "train.log"):
        print(f"variables carried to every worker: {', '.join(names)}")
        if python is not None:
            OmegaConf.update(config, worker_env.EXECUTABLE, python, force_add=True)
        ended_early = _run(config, output_dir / STOP_FILE)
    if ended_early is not None:
        status, why = ended_early
        print(secrets.redact(why), file=sys.stderr, flush=True)
        sys.exit(status)
    not_exported = None
    with export.ending_at_once():
        if config.longrl.export and config.trainer.save_freq > 0:
            try:
                export.export(Path(config.trainer.default_local_dir), output_dir / "export")
            except CheckpointError as error:
                not_exported = error
        report.write(output_dir, command=command, seconds=time.time() - started)
    if not_exported is not None:
        sys.exit(f"trained, but not exported: {not_exported}")


def _run(config: DictConfig, stop_file: Path) -> tuple[int, str] | None:
    """Train; the status to exit with and why when the run ended early, or None when it came to its end."""
    import ray
    from verl.trainer.main_ppo import run_ppo
    from verl_longrl.trainer.checkpoints import CheckpointError
    from verl_longrl.trainer.interruption import Interrupted, Stopped
    from verl_longrl.trainer.ray_errors import death
    from verl_longrl.trainer.task_runner import LongRLTaskRunner

    ray_token.keep_private(config)
    try:
        with gcs_watch.watched():
            run_ppo(config, task_runner_class=signals.Stoppable(LongRLTaskRunner, stop_file))
    except (Interrupted, Stopped) as ended:  # Ray's error, which is of the class of its cause as well
        why = getattr(ended, "cause", ended)
        return (INTERRUPTED, f"interrupted: {why}") if isinstance(ended, Interrupted) else (1, f"stopped: {why}")
    except CheckpointError as refused:
        return 2, f"refused: {getattr(refused, 'cause', refused)}"
    except Exception as error:
        died = str(error) if isinstance(error, gcs_watch.ControlStoreLost) else death(error)
        if died is None:
            raise
        return INTERRUPTED, f"interrupted: {died}. Repeat the command to go on from the last whole checkpoint"
    finally:
        signals.end_at_once()
        ray.shutdown()  # here, so that what dying engines print goes to the log
    return None


if __name__ == "__main__":
    main()
