"""Write `run.json`: what a run is and how it stands, for lists of runs and for comparing them.

    {"status": "running", "why": "", "started": "2026-03-01T09:00:00Z", "ended": null, "host": "node3",
     "name": "wells", "method": "longrlvr", "model": "Qwen/Qwen2.5-7B-Instruct-1M", "steps": 150,
     "command": "python -m ...", "commit": "4f0c...", "versions": {"verl": "0.9.1", ...},
     "changed": {"longrl.reward.eta": 0.2, ...}}

The status is one of STATUSES. A run that is killed stays "running"; `verl_longrl.trainer.recorded_run` knows the
difference. A new start replaces the file, and `starts.jsonl` keeps the facts of all starts. The process that starts the
training is the only writer, and no error of the record ends a run.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from verl_longrl import secrets
from verl_longrl.data.jsonl import dumps
from verl_longrl.printable import one_line
from verl_longrl.trainer.checkpoints import write_atomic
from verl_longrl.trainer.recorded_run import RUN_FILE

from recipe.longrl import model_folder, provenance, settings

Status = Literal["running", "complete", "interrupted", "stopped", "refused", "failed"]
"""interrupted: the same command resumes the run. stopped: it would end again. refused: nothing was trained. failed: any
other error."""
LONGEST_WHY = 2000
"""Characters of the reason why a run ended."""


class RunRecord:
    """Writes the `run.json` of a run. Its methods raise nothing."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self._path = folder / RUN_FILE
        self._content = {"status": "running", "why": "", "started": _now(), "ended": None, **facts}
        self._write()

    @property
    def ended(self) -> bool:
        return self._content["ended"] is not None

    def end(self, status: Status, why: str = "") -> None:
        """The run has ended. why: shown to people, without secrets."""
        why = one_line(secrets.redact(why))[:LONGEST_WHY]
        self._content |= {"status": status, "why": why, "ended": _now()}
        self._write()

    def _write(self) -> None:
        try:
            write_atomic(self._path, dumps(self._content, indent=1) + "\n")
        except Exception as error:  # noqa: BLE001  a record is not worth ending the run
            print(f"{self._path} is not written: {error}", flush=True)


@contextmanager
def record_run(config: DictConfig, command: str) -> Iterator[RunRecord]:
    """Record a start of a run, and its end when the block ends: complete, or failed with the error."""
    folder = Path(config.longrl.output_dir)
    start = provenance.record_start(folder, command)
    # The record has its own names for times.
    start.pop("time")
    record = RunRecord(folder, {**_describe(config), **start})
    try:
        yield record
    except BaseException as error:
        if not record.ended:
            # A signal that ends the process at once becomes SystemExit.
            signalled = isinstance(error, KeyboardInterrupt | SystemExit)
            status: Status = "interrupted" if signalled else "failed"
            record.end(status, f"{type(error).__name__}: {error}")
        raise
    if not record.ended:
        record.end("complete")


def _describe(config: DictConfig) -> dict[str, Any]:
    facts: dict[str, Any] = {"host": socket.gethostname()}
    try:
        facts |= {
            "name": config.trainer.experiment_name,
            "method": OmegaConf.select(config, "longrl.reward.method"),
            "model": model_folder.original_model(config.actor_rollout_ref.model.path),
            "steps": config.trainer.total_training_steps,
            "changed": settings.changed_values(config),
        }
    except Exception as error:  # noqa: BLE001  a record is not worth ending the run
        print(f"{RUN_FILE} does not describe the configuration: {error}", flush=True)
    return facts


def _now() -> str:
    return time.strftime(provenance.TIME, time.gmtime())
