"""The newest whole checkpoint as a Hugging Face folder: `python -m recipe.longrl.export CHECKPOINTS TARGET`.

Upstream's model merger gathers the shards; the folder appears complete or not at all.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from verl_longrl.trainer.checkpoints import CheckpointError, newest_whole, step_of


def export_final(checkpoints: Path, target: Path) -> Path:
    """Merge the newest whole checkpoint under `checkpoints` into `target`; skipped if that step is there already.

    Raises CheckpointError when there is no whole checkpoint or the merge fails.
    """
    folder, passed_over = newest_whole(checkpoints)
    if folder is None:
        raise CheckpointError("\n".join([f"no whole checkpoint under {checkpoints} to export", *passed_over]))
    marker = target / "longrl_step.txt"
    if marker.is_file() and marker.read_text() == str(step_of(folder)):
        return target
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    command += ["--local_dir", str(folder / "actor"), "--target_dir", str(aside)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(aside, ignore_errors=True)
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise CheckpointError(
            f"export of {folder} failed with exit status {done.returncode}: {said}\ncommand: {' '.join(command)}"
        )
    (aside / marker.name).write_text(str(step_of(folder)))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(aside, target)
    print(f"exported step {step_of(folder)} to {target}", flush=True)
    return target


def main(
    checkpoints: Annotated[Path, typer.Argument(help="The run's checkpoints folder.")],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """Write the newest whole checkpoint as a Hugging Face folder."""
    try:
        export_final(checkpoints, target)
    except CheckpointError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
