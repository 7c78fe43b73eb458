"""`python -m recipe.longrl.main [--dry-run] [hydra overrides...]`: compose, check, train, report.

The configuration (config/longrl_trainer.yaml and its groups) is checked as a whole before any process is started, and
is then handed to verl with our task runner. Afterwards the run's folder has the final weights as a Hugging Face folder,
summary.json and plots. `--dry-run` stops after the checks and needs no GPU. If the run is killed, rerun the same
command: it resumes from the last complete checkpoint. When the run is told to stop (`signals.py`) or one of its
processes dies, it saves a checkpoint and exits with status 75.
"""

import os
import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf
from verl_longrl import secrets
from verl_longrl.data.jsonl import is_disk_full
from verl_longrl.folder_lock import FolderInUse
from verl_longrl.trainer.write_access import allow_only_owner_to_write

from recipe.longrl import (
    command_flags,
    console,
    gcs_watch,
    preflight,
    ray_token,
    report,
    run_identity,
    run_lock,
    run_record,
    settings,
    signals,
    worker_env,
)
from recipe.longrl.local_ray import own_ray
from recipe.longrl.memory import table

HELP = """usage: python -m recipe.longrl.main [--dry-run] [--config] [--version] [--help] [hydra overrides...]

  --dry-run          check everything, print the plan, memory estimate and cluster fit, start nothing
  --config           print the resolved configuration, LongRL's block first; needs neither data nor a model
                     (with --dry-run: before the checks)
  --config=changed   print only the settings that differ from the defaults
  --version          print the versions of LongRL and its main dependencies
  --help             print this text

groups:     method=longrlvr|outcome_only|loongrl|golongrl   model=custom|qwen2.5-7b-1m|...
            hardware=8gpu|16gpu|128gpu|1gpu|cpu
required:   data.train_files=[...] data.val_files=[...] and, with model=custom, actor_rollout_ref.model.path=...
examples:   longrl.reward.eta=0.2   trainer.total_training_steps=200   longrl.reward.answer.by=judge

to stop:    send SIGTERM or SIGUSR1, or `touch OUTPUT_DIR/stop`: the run saves a checkpoint (immediately while rollouts
            are generated, otherwise at the end of the step) and exits with status 75
status:     0    training is complete
            1    rerunning the command would fail again: too many failed scores, no reward signal, weights that are not
                 finite (not saved; the message names the last good checkpoint), or an error
            2    refused, nothing was started; for example, another process uses the folder
            75   stopped, a process died, a disk is full, or the judge was unreachable for too long: rerun the same
                 command to resume from the last checkpoint
            143, 138   a second signal ended the run immediately
"""
INTERRUPTED = os.EX_TEMPFAIL
STATUS_NAMES: dict[int, run_record.Status] = {INTERRUPTED: "interrupted", 1: "stopped", 2: "refused"}
"""Exit status of a training that ended early -> its name in run.json."""
FLAGS = ("--dry-run", "--config", "--config=changed", "--version", "--help", "-h")


def main(arguments: list[str] | None = None) -> None:
    """The command line; a configuration that cannot run exits with a plain message and status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.excepthook = console.show_error
    try:
        flags, overrides = command_flags.split_flags(arguments, FLAGS)
        if command_flags.answer_flags(flags, HELP):
            return
        dry_run, print_config = "--dry-run" in flags, bool(flags & {"--config", "--config=changed"})
        config = settings.compose(overrides)
        starts_training = not dry_run and not print_config
        if starts_training and not config.longrl.trust_folder:
            allow_only_owner_to_write()
        with run_lock.hold(settings.run_folders(config)) if starts_training else nullcontext():
            settings.resolve(config, dry_run=not starts_training, partial=print_config and not dry_run)
            if print_config:
                print(settings.as_yaml(config, changed="--config=changed" in flags))
                if not dry_run:
                    return
            _check_and_train(config, dry_run, shlex.join(["python", "-m", "recipe.longrl.main", *overrides]))
    except (settings.SettingsError, secrets.SecretsError, FolderInUse) as error:
        refuse(error)
    except Exception as error:
        if not is_disk_full(error):
            raise
        cause = getattr(error, "cause", error)  # Ray wraps errors of its workers
        print(f"interrupted: {cause}. Free disk space and rerun the command", file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)


def refuse(error: Exception) -> NoReturn:
    """Print why nothing is started, and exit with status 2."""
    kind = "not started" if isinstance(error, FolderInUse) else "configuration error"
    print(f"{kind}: {error}", file=sys.stderr)
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
    """Train to the end, resuming from the last checkpoint, then export and report.

    python: the command that Ray starts workers with; None for this Python. Raises SecretsError when the keys cannot be
    handed to the workers, and the error that stopped the training. Exits with status 75 where rerunning the command
    resumes.
    """
    from verl_longrl.trainer.checkpoints import CheckpointError
    from verl_longrl.trainer.interruption import STOP_FILE

    from recipe.longrl import export, stale_files

    started = time.time()
    output_dir = Path(config.longrl.output_dir)
    # A stop file of an earlier start would stop this one. In a folder without our configuration it is not ours.
    if (output_dir / run_identity.STORED).is_file():
        (output_dir / STOP_FILE).unlink(missing_ok=True)
    for line in stale_files.remove_stale_files(config):
        print(line)
    run_identity.store_config(config)
    command = secrets.redact(command)
    with run_record.record_run(config, command) as record:
        with worker_env.forward_env(config) as names, console.log_output(output_dir / "train.log"):
            print(f"environment variables forwarded to workers: {', '.join(names)}")
            if python is not None:
                OmegaConf.update(config, worker_env.EXECUTABLE, python, force_add=True)
            ended_early = _run(config, output_dir / STOP_FILE)
        if ended_early is not None:
            status, why = ended_early
            record.end(STATUS_NAMES[status], why)
            print(secrets.redact(why), file=sys.stderr, flush=True)
            sys.exit(status)
        not_exported = None
        with export.exit_on_signals():
            if config.longrl.export and config.trainer.save_freq > 0:
                try:
                    export.export_checkpoint(Path(config.trainer.default_local_dir), output_dir / "export")
                except CheckpointError as error:
                    not_exported = error
            report.write_report(output_dir, command=command, seconds=time.time() - started)
        if not_exported is not None:
            record.end("complete", f"trained, but not exported: {not_exported}")
            sys.exit(f"trained, but not exported: {not_exported}")


def _run(config: DictConfig, stop_file: Path) -> tuple[int, str] | None:
    """Train; returns the exit status and the reason when the run ended early, or None when training is complete."""
    import ray
    from verl.trainer.main_ppo import run_ppo
    from verl_longrl.trainer.checkpoints import CheckpointError
    from verl_longrl.trainer.interruption import Interrupted, Stopped
    from verl_longrl.trainer.ray_errors import find_death
    from verl_longrl.trainer.task_runner import LongRLTaskRunner

    ray_token.make_token_private(config)
    runner: Any = LongRLTaskRunner
    if config.longrl.evaluate.suites:
        from recipe.longrl.evaluation.task_runner import EvaluatingTaskRunner

        runner = EvaluatingTaskRunner
    try:
        with gcs_watch.watch_control_store():
            run_ppo(config, task_runner_class=signals.StoppableRunner(runner, stop_file))
    except (Interrupted, Stopped) as ended:
        # Ray raises an error that is an instance of the class of its cause, too.
        why = getattr(ended, "cause", ended)
        return (INTERRUPTED, f"interrupted: {why}") if isinstance(ended, Interrupted) else (1, f"stopped: {why}")
    except CheckpointError as refused:
        return 2, f"refused: {getattr(refused, 'cause', refused)}"
    except Exception as error:
        died = str(error) if isinstance(error, gcs_watch.ControlStoreLost) else find_death(error)
        if died is None:
            raise
        return INTERRUPTED, f"interrupted: {died}. Rerun the command to resume from the last complete checkpoint"
    finally:
        signals.exit_on_signals()
        # Inside the log's block: what engines print while they shut down goes to the log.
        ray.shutdown()
    return None


if __name__ == "__main__":
    main()
