"""Let a resumed run continue its W&B run and its TensorBoard curves, and show rollouts as tables.

verl starts a new W&B run at each start, and writes TensorBoard events of repeated steps in addition to the first ones.
Both libraries read settings when verl opens them, which are set here. While a disk is full, points of curves are lost
and the run continues.
"""

import os
import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from verl.utils.tracking import Tracking

from verl_longrl.data.jsonl import dumps, is_disk_full
from verl_longrl.trainer.console_lines import print_line
from verl_longrl.trainer.rollout_log import LoggedRollouts

WANDB_ID = "wandb_run_id"
"""The file in the run's folder that holds the id."""
TABLE = "rollouts"
"""The name of the tables of rollouts."""
ABOUT = ("task", "status", "reason", "score", "answer", "context", "recall", "precision", "format", "cited_ids")
MEASURED = ("advantage", "logprob_gap", "seconds", "weights_step")
COLUMNS = ("step", "uid", "rollout", "question", "ground_truth", *ABOUT, *MEASURED, "response_tokens", "response")
"""Columns of a table of rollouts. The prompt is not among them: it may have a megabyte."""


def resume_at(step: int, output_dir: Path, trackers: Collection[str]) -> None:
    """Set the variables that W&B and TensorBoard read. Call it before verl creates its `Tracking`.

    step: the last one that counts; 0 for a new run. trackers: `trainer.logger`. Variables that the user has set
    (WANDB_RUN_ID, WANDB_RESUME, TENSORBOARD_DIR) win.
    """
    if "wandb" in trackers:
        os.environ.setdefault("WANDB_RUN_ID", _wandb_id(step, output_dir / WANDB_ID))
        # W&B skips steps that it already has, so a repeated step keeps its first values.
        os.environ.setdefault("WANDB_RESUME", "allow")
    if "tensorboard" in trackers:
        folder = os.environ.setdefault("TENSORBOARD_DIR", str(output_dir / "tensorboard"))
        from torch.utils.tensorboard import SummaryWriter

        try:
            # Readers then drop events that an earlier start wrote from that step on.
            SummaryWriter(folder, purge_step=step + 1).close()
        except OSError as error:
            _report_full_disk(error)


class LossyTracking(Tracking):
    """verl's trackers. On a full disk each loses the points that it would have written, with a line that says so."""

    def log(self, data: dict[str, Any], step: int, backend: Any = None) -> None:
        for name in [name for name in self.logger if backend is None or name in backend]:
            try:
                super().log(data=data, step=step, backend=[name])
            except OSError as error:
                _report_full_disk(error)

    def log_rollouts(self, step: int, rollouts: LoggedRollouts, count: int, decode: Callable[..., str]) -> None:
        """Log some rollouts of a step as a table, where W&B, trackio or MLflow is in use. Raises nothing.

        count: rollouts in the table. decode: token ids -> text.
        """
        for name in [name for name in TABLE_OF if name in self.logger]:
            try:
                TABLE_OF[name](self.logger[name], step, table_rows(step, rollouts, count, decode))
            except Exception as error:  # noqa: BLE001  a table is not worth ending the run
                print_line(f"step {step}: no table of rollouts in {name}: {type(error).__name__}: {error}")


def table_rows(step: int, rollouts: LoggedRollouts, count: int, decode: Callable[..., str]) -> list[list[Any]]:
    """The rows of a table with `COLUMNS`, of rollouts at equal distances in a step, so of different prompts if there
    are enough."""
    columns = (rollouts.keys, rollouts.responses, rollouts.scores, rollouts.measured)
    ordered = sorted(zip(*columns, strict=True), key=lambda each: each[0])
    places = np.linspace(0, len(ordered), min(count, len(ordered)), endpoint=False, dtype=int)
    rows = []
    for key, response, score, measured in (ordered[place] for place in places):
        prompt = rollouts.prompts[key.uid]
        truth = prompt.reward_model.get("ground_truth")
        question = prompt.extra_info.get("question")
        about = [score.get(name) for name in ABOUT]
        about += [measured.get(name) for name in MEASURED]
        text = decode(response, skip_special_tokens=True)
        gold = truth if isinstance(truth, str) else dumps(truth)
        rows.append([step, key.uid, key.session, question, gold, *about, len(response), text])
    return rows


def _log_wandb_table(wandb: Any, step: int, rows: list[list[Any]]) -> None:
    # Tasks differ in whether they have, say, citations.
    table = wandb.Table(columns=list(COLUMNS), data=rows, allow_mixed_types=True)
    wandb.log({TABLE: table}, step=step)


def _log_trackio_table(adapter: Any, step: int, rows: list[list[Any]]) -> None:
    import pandas

    frame = pandas.DataFrame(rows, columns=list(COLUMNS))
    adapter.log({TABLE: adapter.trackio.Table(dataframe=frame)}, step=step)


def _log_mlflow_table(adapter: Any, step: int, rows: list[list[Any]]) -> None:
    import mlflow

    # A file for each step: MLflow reads and writes a table as a whole to add rows to it.
    columns = dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    mlflow.log_table(columns, artifact_file=f"{TABLE}/{step:06}.json")


TABLE_OF: dict[str, Callable[[Any, int, list[list[Any]]], None]] = {
    "wandb": _log_wandb_table,
    "trackio": _log_trackio_table,
    "mlflow": _log_mlflow_table,
}
"""Name of a tracker -> logs a table with what verl keeps of the tracker."""


def _report_full_disk(error: OSError) -> None:
    """Print that points of curves are lost. Raises any error but that of a full disk."""
    if not is_disk_full(error):
        raise error
    print_line(f"trackers: {error}: points of curves are lost until the next start")


def _wandb_id(step: int, file: Path) -> str:
    if step == 0 or not file.is_file():
        file.write_text(secrets.token_hex(4))
    return file.read_text().strip()
