"""A whole checkpoint as a Hugging Face folder: `python -m recipe.longrl.export CHECKPOINTS TARGET [--step N]`.

Weights that the checkpoint holds in Hugging Face's format are copied (Megatron writes them so through its bridge);
shards are gathered by verl's model merger of the engine that wrote them. The checkpoint says which, and the run's
folder what goes into the model card. What is read is looked at first (`checksums.py`). The folder appears complete or
not at all, and replaces nothing but an earlier export.
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
    damage,
    manifest_of,
    newest_whole,
    step_of,
    sync,
)

from recipe.longrl import model_card, run_identity, signals

MARKER = "longrl_export.json"
"""In the exported folder: its files, which checkpoint it is, and when that became whole (a new run may write the same
step)."""
OLD_MARKERS = (MARKER, "longrl_step.txt")
"""And what it was called before."""
EXPORTER = ".exporter.json"
"""In a folder that is not complete yet: the process that writes it."""


def export(checkpoints: Path, target: Path, step: int | None = None) -> Path:
    """Write the whole checkpoint of this step (None: the newest) under `checkpoints` to `target`, with a model card;
    skipped if it is there already.

    Raises CheckpointError when there is no such checkpoint, its weights cannot be gathered, or `target` holds
    something else.
    """
    checkpoints, target = Path(os.path.abspath(checkpoints)), target.resolve()
    if _is_of(target, _find(checkpoints, step, damage)):
        return target
    if (problem := in_the_way(target)) is not None:
        raise CheckpointError(problem)
    folder = _find(checkpoints, step, _unsound)
    if _is_of(target, folder):
        return target
    sweep(target)
    aside, before = _leftovers(target)
    aside.mkdir(parents=True)
    try:
        (aside / EXPORTER).write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time()}))
        _write_weights(folder, aside, run_identity.stored_beside(checkpoints))
        (aside / model_card.CARD).write_text(model_card.text(checkpoints, folder))
        (aside / EXPORTER).unlink()
        (aside / MARKER).write_text(json.dumps({**_identity(folder), "files": _files(aside)}, indent=1) + "\n")
        _share(aside)
        for path in (*aside.rglob("*"), aside):
            sync(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if target.exists():
        known = "files" in _about(target) or not any(target.iterdir())
        os.replace(target, before if known else _kept(target))
    os.replace(aside, target)
    shutil.rmtree(before, ignore_errors=True)
    print(f"exported step {step_of(folder)} to {target}", flush=True)
    return target


def is_current(checkpoints: Path, target: Path) -> bool:
    """Whether the export at `target` is of the newest whole checkpoint."""
    newest, _ = newest_whole(checkpoints)
    return newest is not None and _is_of(target.resolve(), newest)


def in_the_way(target: Path) -> str | None:
    """Why no export may replace what is at `target`, and what to do; None if one may."""
    if not target.exists():
        return None
    if not target.is_dir():
        return f"{target} is no folder; name another"
    found = set(_files(target))
    if found and not found & {*OLD_MARKERS}:
        return f"{target} holds files that no export wrote; give an empty or new folder"
    if (files := _about(target).get("files")) is None:  # of an early version, which did not list what it wrote
        exists = found and _kept(target).exists()
        return f"{target} and {_kept(target)} are both exports of an early version; move one away" if exists else None
    if added := sorted(found - {*files, MARKER}):
        return f"{target} holds files that the export did not write: {', '.join(added[:5])}; move them away"
    return None


def sweep(target: Path) -> None:
    """Delete what exports to `target` that were killed have left beside it; one that was about to be replaced is put
    back. Raises CheckpointError when that may be something else, or the export is still going on."""
    aside, before = _leftovers(target)
    if (before / MARKER).is_file() and not target.exists():
        os.replace(before, target)
    for leftover in (aside, before):
        if not leftover.exists():
            continue
        if not any((leftover / name).exists() for name in (EXPORTER, *OLD_MARKERS)) and any(leftover.iterdir()):
            raise CheckpointError(f"{leftover} is where exports are written, and no export wrote it; move it away")
        if (pid := _exporting(leftover)) is not None:
            raise CheckpointError(f"process {pid} is exporting to {target}; wait for it, or end it")
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """While it lasts, a signal that asks a run to stop ends the process with status 75, without a part of an export."""

    def end(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        os.write(2, f"{name}: training is complete, its export is not; the same command goes on with it\n".encode())
        sys.exit(os.EX_TEMPFAIL)

    if threading.current_thread() is not threading.main_thread():  # where signals are not handled
        yield
        return
    before = {number: signal.signal(number, end) for number in signals.SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _leftovers(target: Path) -> tuple[Path, Path]:
    """Where an export is written, and where the one that it replaces waits."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.before")


def _kept(target: Path) -> Path:
    """Where an export goes of which it is not known what somebody added to it."""
    return target.with_name(f"{target.name}.old")


def _exporting(folder: Path) -> int | None:
    """The process that is writing the folder, if it is alive, on this machine and not this one."""
    try:
        exporter = json.loads((folder / EXPORTER).read_text())
        alive = psutil.Process(exporter["pid"]).create_time() == exporter["started"]
    except (OSError, ValueError, TypeError, LookupError, psutil.Error):
        return None
    return int(exporter["pid"]) if alive and exporter["pid"] != os.getpid() else None


def _about(target: Path) -> dict[str, Any]:
    """What an exported folder says of itself."""
    try:
        said = json.loads((target / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _identity(folder: Path) -> dict[str, Any]:
    """Which checkpoint, and of which time."""
    sealed = (folder / MANIFEST).stat().st_mtime_ns
    return {"step": step_of(folder), "checkpoint": str(folder.resolve()), "sealed": sealed}


def _is_of(target: Path, folder: Path) -> bool:
    """Whether the export at `target` is of this checkpoint."""
    return _identity(folder).items() <= _about(target).items()


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())


def _find(checkpoints: Path, step: int | None, check: Check) -> Path:
    if step is None:
        folder, passed_over = newest_whole(checkpoints, check)
        if folder is None:
            raise CheckpointError("\n".join([f"no whole checkpoint under {checkpoints} to export", *passed_over]))
        if check is _unsound:
            for line in passed_over:
                print(f"export: {line}", flush=True)
        return folder
    folder = checkpoints / f"global_step_{step}"
    reason = check(folder) if folder.is_dir() else "there is none"
    if reason is not None:
        whole = [str(step_of(other)) for other in checkpoint_folders(checkpoints) if damage(other) is None]
        listed = ", ".join(whole) or "none"
        raise CheckpointError(f"no whole checkpoint of step {step} under {checkpoints}: {reason}; whole ones: {listed}")
    return folder


def _unsound(folder: Path) -> str | None:
    """Why the checkpoint is not to be exported, when what is read of it has been looked at. Raises CheckpointError when
    loading it would run code."""
    if (reason := damage(folder)) is not None:
        return reason
    others = ("actor/optim", "actor/extra")  # the optimizer's and the random state, which no export reads
    checkable = manifest_of(folder).checkable()
    expected = {n: crc for n, crc in checkable.items() if n.startswith("actor/") and not n.startswith(others)}
    try:
        found = checksums.damaged(folder, expected)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error
    if not found and (folder / "actor" / "fsdp_config.json").is_file():
        safe_loading.refuse(safe_loading.calling(folder, [name for name in expected if name.endswith(".pt")]))
    return "; ".join(found) or None


def _write_weights(folder: Path, target: Path, config: Path | None) -> None:
    """Weights, configuration and tokenizer of a checkpoint. config: the run's stored one."""
    actor = folder / "actor"
    if (megatron := actor / "ckpt_contents.json").is_file():
        _from_megatron(actor, target, json.loads(megatron.read_text()), config)
    elif (actor / "fsdp_config.json").is_file():
        if _lacking(actor / "huggingface") is None:  # save_contents has hf_model
            _copy(actor / "huggingface", target)
        else:
            _merge("fsdp", actor, target, config)
    else:
        raise CheckpointError(
            f"{actor} has neither fsdp_config.json nor ckpt_contents.json, so it was not written by FSDP or Megatron, "
            "and no other engine's checkpoints can be exported"
        )


def _from_megatron(actor: Path, target: Path, contents: dict[str, Any], config: Path | None) -> None:
    """contents: what verl's ckpt_contents.json says of the checkpoint."""
    own = actor / "model" / "huggingface"
    if contents["backend"]["peft"]:
        raise CheckpointError(
            f"{actor} holds a LoRA adapter without the base model ({own / 'adapter'}); load it with peft, or merge it "
            "into the base model with peft's merge_and_unload"
        )
    formats = {name: entry.get("format") for name, entry in contents["contents"].items()}
    if "huggingface" in (formats.get("model"), formats.get("hf_model")):
        _copy(own, target)
    elif (own / "config.json").is_file():
        tied = json.loads((own / "config.json").read_text()).get("tie_word_embeddings", False)
        _merge("megatron", actor, target, config, *(["--tie-word-embedding"] if tied else []))
    else:
        raise CheckpointError(
            f"{actor} has Megatron's shards (use_dist_checkpointing=true) without config and tokenizer, which the "
            f"merger reads from {own}: copy the base model's config.json and tokenizer files there. Later runs need "
            "hf_model in actor_rollout_ref.actor.checkpoint.save_contents"
        )


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile)
    if (lacking := _lacking(target)) is not None:
        raise CheckpointError(f"{source} holds no complete Hugging Face model: {lacking}")


def _lacking(folder: Path) -> str | None:
    """What a folder lacks to be a Hugging Face model, as verl sees it."""
    from verl.model_merger.output_validation import validate_hf_model_output

    try:
        validate_hf_model_output(folder)
    except RuntimeError as error:
        return str(error)
    return None


def _merge(backend: str, actor: Path, target: Path, config: Path | None, *options: str) -> None:
    command = [sys.executable, "-m", "recipe.longrl.merger", str(os.getpid()), "merge", "--backend", backend]
    command += ["--local_dir", str(actor), "--target_dir", str(target), *options]
    if model_card.read(config, "actor_rollout_ref.model.trust_remote_code"):
        command.append("--trust-remote-code")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise CheckpointError(
            f"export of {actor.parent} failed with exit status {done.returncode}: {said}\ncommand: {' '.join(command)}"
        )


def _share(folder: Path) -> None:
    """Give everything the permissions that this process's files get; libraries write weights for their owner alone."""
    of_folder = stat.S_IMODE(folder.stat().st_mode)
    of_file = stat.S_IMODE((folder / MARKER).stat().st_mode)
    for path in folder.rglob("*"):
        wanted = of_folder if path.is_dir() else of_file
        if stat.S_IMODE(path.stat().st_mode) != wanted:
            path.chmod(wanted)


def main(
    checkpoints: Annotated[Path, typer.Argument(help="The run's checkpoints folder.")],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
    step: Annotated[int | None, typer.Option(help="Step of the checkpoint; the newest if not given.")] = None,
) -> None:
    """Write a whole checkpoint as a Hugging Face folder, with a model card."""
    try:
        with ending_at_once():
            export(checkpoints, target, step)
    except CheckpointError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
