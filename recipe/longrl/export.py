"""A whole checkpoint as a Hugging Face folder: `python -m recipe.longrl.export CHECKPOINTS TARGET [--step N]`.

Weights that the checkpoint holds in Hugging Face's format are copied (Megatron writes them so through its bridge);
shards are gathered by upstream's model merger of the engine that wrote them. The checkpoint says which, and the run's
folder what goes into the model card. The folder appears complete or not at all.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from verl_longrl.trainer.checkpoints import (
    MANIFEST,
    CheckpointError,
    checkpoint_folders,
    damage,
    newest_whole,
    step_of,
)

from recipe.longrl import identity, model_card

MARKER = "longrl_export.json"
"""In the exported folder: which checkpoint it is, and when that became whole (a new run may write the same step)."""
MARKERS = (MARKER, "longrl_step.txt")
"""And what it was called before."""


def export(checkpoints: Path, target: Path, step: int | None = None) -> Path:
    """Write the whole checkpoint of this step (None: the newest) under `checkpoints` to `target`, with a model card;
    skipped if it is there already.

    Raises CheckpointError when there is no such checkpoint, its weights cannot be gathered, or `target` holds
    something else.
    """
    checkpoints, target = (Path(os.path.abspath(path)) for path in (checkpoints, target))
    folder = _find(checkpoints, step)
    about = {
        "step": step_of(folder),
        "checkpoint": str(folder.resolve()),
        "sealed": (folder / MANIFEST).stat().st_mtime_ns,
    }
    if (target / MARKER).is_file() and json.loads((target / MARKER).read_text()) == about:
        return target
    if target.exists() and not any((target / name).is_file() for name in MARKERS) and any(target.iterdir()):
        raise CheckpointError(f"{target} holds files that no export wrote; give an empty or new folder")
    aside, before = (target.with_name(f".{target.name}.{kind}") for kind in ("partial", "before"))
    for leftover in (aside, before):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _write_weights(folder, aside, identity.stored_beside(checkpoints))
        (aside / model_card.CARD).write_text(model_card.text(checkpoints, folder))
        (aside / MARKER).write_text(json.dumps(about, indent=1) + "\n")
        _share(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if target.exists():
        os.replace(target, before)
    os.replace(aside, target)
    shutil.rmtree(before, ignore_errors=True)
    print(f"exported step {step_of(folder)} to {target}", flush=True)
    return target


def _find(checkpoints: Path, step: int | None) -> Path:
    if step is None:
        folder, passed_over = newest_whole(checkpoints)
        if folder is None:
            raise CheckpointError("\n".join([f"no whole checkpoint under {checkpoints} to export", *passed_over]))
        return folder
    folder = checkpoints / f"global_step_{step}"
    reason = damage(folder) if folder.is_dir() else "there is none"
    if reason is not None:
        whole = [str(step_of(other)) for other in checkpoint_folders(checkpoints) if damage(other) is None]
        listed = ", ".join(whole) or "none"
        raise CheckpointError(f"no whole checkpoint of step {step} under {checkpoints}: {reason}; whole ones: {listed}")
    return folder


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
    """contents: what upstream's ckpt_contents.json says of the checkpoint."""
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
    """What a folder lacks to be a Hugging Face model, as upstream sees it."""
    from verl.model_merger.output_validation import validate_hf_model_output

    try:
        validate_hf_model_output(folder)
    except RuntimeError as error:
        return str(error)
    return None


def _merge(backend: str, actor: Path, target: Path, config: Path | None, *options: str) -> None:
    command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", backend]
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
        export(checkpoints, target, step)
    except CheckpointError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
