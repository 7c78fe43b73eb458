"""Export a checkpoint as a Hugging Face folder: `python -m recipe.longrl.export CHECKPOINTS TARGET [--step N]`.

Weights that the checkpoint has in Hugging Face's format (Megatron writes them through its bridge) are copied. Shards
are gathered by verl's model merger. Every file that is read is verified first (`checksums.py`). The exported folder
appears complete or not at all, and it replaces only an earlier export.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import psutil
import typer
from verl_longrl.trainer import checksums, safe_loading
from verl_longrl.trainer.checkpoints import (
    MANIFEST,
    Check,
    CheckpointError,
    checkpoint_folders,
    find_damage,
    manifest_of,
    newest_whole,
    step_of,
    sync,
)

from recipe.longrl import model_card, run_identity, signals

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MARKER = "longrl_export.json"
"""In the exported folder: its files, its checkpoint, and when the checkpoint was completed (a new run may write the
same step again)."""
OLD_MARKERS = (MARKER, "longrl_step.txt")
"""Names of the marker, including that of earlier versions."""
EXPORTER = ".exporter.json"
"""In a folder that is not complete yet: the process that is writing it."""


def export_checkpoint(checkpoints: Path, target: Path, step: int | None = None) -> Path:
    """Write a complete checkpoint to `target`, with a model card; does nothing if that export exists already.

    step: of the checkpoint; None for the newest. Raises CheckpointError when there is no such checkpoint, its weights
    cannot be gathered, or `target` contains files of another origin.
    """
    checkpoints, target = Path(os.path.abspath(checkpoints)), target.resolve()
    if _is_of(target, _find(checkpoints, step, find_damage)):
        return target
    if (problem := find_conflict(target)) is not None:
        raise CheckpointError(problem)
    folder = _find(checkpoints, step, _unsound)
    if _is_of(target, folder):
        return target
    remove_leftovers(target)
    aside, before = _leftovers(target)
    aside.mkdir(parents=True)
    try:
        (aside / EXPORTER).write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time()}))
        _write_weights(folder, aside, run_identity.find_stored_config(checkpoints))
        (aside / model_card.CARD).write_text(model_card.compose_card(checkpoints, folder))
        (aside / EXPORTER).unlink()
        (aside / MARKER).write_text(json.dumps({**_identity(folder), "files": _files(aside)}, indent=1) + "\n")
        _share(aside)
        for path in (*aside.rglob("*"), aside):
            sync(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if target.exists():
        known = "files" in _read_marker(target) or not any(target.iterdir())
        os.replace(target, before if known else _kept_export(target))
    os.replace(aside, target)
    shutil.rmtree(before, ignore_errors=True)
    print(f"exported step {step_of(folder)} to {target}", flush=True)
    return target


def is_up_to_date(checkpoints: Path, target: Path) -> bool:
    """Whether the export at `target` is of the newest complete checkpoint."""
    newest, _ = newest_whole(checkpoints)
    return newest is not None and _is_of(target.resolve(), newest)


def find_conflict(target: Path) -> str | None:
    """Why an export must not replace what is at `target`, and the fix; None if it may."""
    if not target.exists():
        return None
    if not target.is_dir():
        return f"{target} is not a folder. Fix: name another"
    existing = set(_files(target))
    if existing and not existing & {*OLD_MARKERS}:
        return f"{target} contains files that no export wrote. Fix: name an empty or new folder"
    if (files := _read_marker(target).get("files")) is None:
        # Early versions did not list the files that they wrote, so their exports are kept beside the new one.
        if not existing or not _kept_export(target).exists():
            return None
        return f"{target} and {_kept_export(target)} are both exports of an early version. Fix: move one of them"
    if added := sorted(existing - {*files, MARKER}):
        return f"{target} contains files that the export did not write: {', '.join(added[:5])}. Fix: move them"
    return None


def remove_leftovers(target: Path) -> None:
    """Delete what killed exports have left next to `target`; an export that was being replaced is restored.

    Raises CheckpointError when another process is still exporting, or the files may be somebody else's.
    """
    aside, before = _leftovers(target)
    if (before / MARKER).is_file() and not target.exists():
        os.replace(before, target)
    for leftover in (aside, before):
        if not leftover.exists():
            continue
        if not any((leftover / name).exists() for name in (EXPORTER, *OLD_MARKERS)) and any(leftover.iterdir()):
            raise CheckpointError(f"exports are written to {leftover}, which no export wrote. Fix: move it")
        if (pid := _exporting(leftover)) is not None:
            raise CheckpointError(f"process {pid} is exporting to {target}. Fix: wait for it, or end it")
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGUSR1 exit with status 75 and leave no incomplete export."""

    def end(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        os.write(2, f"{name}: training is complete, its export is not. Rerun the same command to export\n".encode())
        sys.exit(os.EX_TEMPFAIL)

    # Only the main thread can handle signals.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in signals.SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _leftovers(target: Path) -> tuple[Path, Path]:
    """The folders that an export is written to, and that the export it replaces is moved to meanwhile."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.before")


def _kept_export(target: Path) -> Path:
    """The folder that an export of an early version is moved to; it may contain files that somebody added."""
    return target.with_name(f"{target.name}.old")


def _exporting(folder: Path) -> int | None:
    """The process that is writing the folder, if it is alive, on this machine, and not this process."""
    try:
        exporter = json.loads((folder / EXPORTER).read_text())
        alive = psutil.Process(exporter["pid"]).create_time() == exporter["started"]
    except (OSError, ValueError, TypeError, LookupError, psutil.Error):
        return None
    return int(exporter["pid"]) if alive and exporter["pid"] != os.getpid() else None


def _read_marker(target: Path) -> dict[str, Any]:
    """The marker of an exported folder; {} where there is none."""
    try:
        marker = json.loads((target / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def _identity(folder: Path) -> dict[str, Any]:
    """Identify a checkpoint by its step, folder and time of completion."""
    sealed = (folder / MANIFEST).stat().st_mtime_ns
    return {"step": step_of(folder), "checkpoint": str(folder.resolve()), "sealed": sealed}


def _is_of(target: Path, folder: Path) -> bool:
    """Whether the export at `target` is of this checkpoint."""
    return _identity(folder).items() <= _read_marker(target).items()


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())


def _find(checkpoints: Path, step: int | None, check: Check) -> Path:
    if step is None:
        folder, passed_over = newest_whole(checkpoints, check)
        if folder is None:
            raise CheckpointError("\n".join([f"no complete checkpoint to export under {checkpoints}", *passed_over]))
        if check is _unsound:
            for line in passed_over:
                print(f"export: {line}", flush=True)
        return folder
    folder = checkpoints / f"global_step_{step}"
    reason = check(folder) if folder.is_dir() else "not found"
    if reason is not None:
        complete = [str(step_of(other)) for other in checkpoint_folders(checkpoints) if find_damage(other) is None]
        steps = ", ".join(complete) or "none"
        raise CheckpointError(
            f"no complete checkpoint of step {step} under {checkpoints}: {reason}. Complete steps: {steps}"
        )
    return folder


def _unsound(folder: Path) -> str | None:
    """Why a checkpoint cannot be exported, after verifying every file that an export reads; None if it can.

    Raises CheckpointError when loading the checkpoint would run code.
    """
    if (reason := find_damage(folder)) is not None:
        return reason
    # An export does not read the state of the optimizer and of random number generators.
    not_read = ("actor/optim", "actor/extra")
    checkable = manifest_of(folder).checkable()
    expected = {n: crc for n, crc in checkable.items() if n.startswith("actor/") and not n.startswith(not_read)}
    try:
        damaged = checksums.damaged(folder, expected)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error
    if not damaged and (folder / "actor" / "fsdp_config.json").is_file():
        safe_loading.refuse(safe_loading.find_calls(folder, [name for name in expected if name.endswith(".pt")]))
    return "; ".join(damaged) or None


def _write_weights(folder: Path, target: Path, config: Path | None) -> None:
    """Write the weights, configuration and tokenizer of a checkpoint. config: the run's stored configuration."""
    actor = folder / "actor"
    if (megatron := actor / "ckpt_contents.json").is_file():
        _from_megatron(actor, target, json.loads(megatron.read_text()), config)
    elif (actor / "fsdp_config.json").is_file():
        # With hf_model in save_contents, the weights are there in Hugging Face's format, too.
        if _find_missing_files(actor / "huggingface") is None:
            _copy(actor / "huggingface", target)
        else:
            _merge("fsdp", actor, target, config)
    else:
        raise CheckpointError(
            f"{actor} has neither fsdp_config.json nor ckpt_contents.json, so it was not written by FSDP or Megatron, "
            "and no other engine's checkpoints can be exported"
        )


def _from_megatron(actor: Path, target: Path, contents: dict[str, Any], config: Path | None) -> None:
    """contents: verl's ckpt_contents.json, which describes the checkpoint."""
    huggingface = actor / "model" / "huggingface"
    if contents["backend"]["peft"]:
        raise CheckpointError(
            f"{actor} has a LoRA adapter without the base model: {huggingface / 'adapter'}. Fix: load it with "
            "peft, or merge it into the base model with peft's merge_and_unload"
        )
    formats = {name: entry.get("format") for name, entry in contents["contents"].items()}
    if "huggingface" in (formats.get("model"), formats.get("hf_model")):
        _copy(huggingface, target)
    elif (huggingface / "config.json").is_file():
        tied = json.loads((huggingface / "config.json").read_text()).get("tie_word_embeddings", False)
        _merge("megatron", actor, target, config, *(["--tie-word-embedding"] if tied else []))
    else:
        raise CheckpointError(
            f"{actor} has Megatron's shards (use_dist_checkpointing=true) without config and tokenizer, which the "
            f"merger reads from {huggingface}. Fix: copy the base model's config.json and tokenizer files there. Later "
            "runs need hf_model in actor_rollout_ref.actor.checkpoint.save_contents"
        )


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile)
    if (missing := _find_missing_files(target)) is not None:
        raise CheckpointError(f"{source} is not a complete Hugging Face model: {missing}")


def _find_missing_files(folder: Path) -> str | None:
    """Describe the files that a Hugging Face model folder lacks, according to verl; None if it is complete."""
    from verl.model_merger.output_validation import validate_hf_model_output

    try:
        validate_hf_model_output(folder)
    except RuntimeError as error:
        return str(error)
    return None


def _merge(backend: str, actor: Path, target: Path, config: Path | None, *options: str) -> None:
    command = [sys.executable, "-m", "recipe.longrl.merger", str(os.getpid()), "merge", "--backend", backend]
    command += ["--local_dir", str(actor), "--target_dir", str(target), *options]
    if model_card.read_value(config, "actor_rollout_ref.model.trust_remote_code"):
        command.append("--trust-remote-code")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last_line = (done.stderr.strip() or done.stdout.strip() or "it printed nothing").splitlines()[-1]
        raise CheckpointError(
            f"export of {actor.parent} failed with exit status {done.returncode}: {last_line}\n"
            f"command: {' '.join(command)}"
        )


def _share(folder: Path) -> None:
    """Give all files the default permissions of this process; libraries write weights readable only by their owner."""
    of_folder = stat.S_IMODE(folder.stat().st_mode)
    of_file = stat.S_IMODE((folder / MARKER).stat().st_mode)
    for path in folder.rglob("*"):
        mode = of_folder if path.is_dir() else of_file
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


@app.command()
def main(
    checkpoints: Annotated[Path, typer.Argument(help="The run's checkpoints folder.")],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
    step: Annotated[int | None, typer.Option(help="Step of the checkpoint; default: the newest.")] = None,
) -> None:
    """Write a complete checkpoint as a Hugging Face folder, with a model card."""
    try:
        with exit_on_signals():
            export_checkpoint(checkpoints, target, step)
    except CheckpointError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    app()
