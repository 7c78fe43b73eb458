"""Prepare a model folder with an edited config.json that both the trainer and the rollout engine read.

Because both engines read the same folder, they cannot disagree. If each engine were given the setting in its own way
(verl's `override_config` and vLLM's `hf_overrides`), they could, and then the log-probabilities of rollouts and trainer
would drift apart without an error. Checkpoints and the export inherit the edited config. Two settings are edited:

- RoPE scaling (`longrl.rope`).
- `dual_chunk_attention_config` (Qwen2.5-1M models) is removed, with the file sparse_attention_config.json. No attention
  backend of vLLM 0.24 or later supports that key, and transformers has never implemented it. Up to `chunk_size` tokens,
  dual chunk attention is plain causal attention; runs with longer sequences are refused.

The prepared folder has links to the model's other files. It records the model that it was made from, and is made again
when the model or the edited config changes.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipe.longrl import hub_access

CONFIG, ORIGIN = "config.json", "longrl_origin.json"
DUAL_CHUNK, SPARSE = "dual_chunk_attention_config", "sparse_attention_config.json"
NO_WEIGHTS = ("*.json", "*.jinja", "*.model", "*.py", "*.tiktoken", "*.txt")
"""The files that a dry run fetches of a model on the hub: configuration and tokenizer."""


class ModelFolderError(ValueError):
    """The model cannot be prepared for both engines; the message has the value and the fix."""


def prepare_model(
    model: str, target: Path, *, length: int, rope: Mapping[str, Any] | None = None, weights: bool = True
) -> str:
    """Prepare `target` if the model's config must be edited; returns `target`, or `model` if nothing has to change.

    model: a folder, or a name on the Hugging Face hub. length: tokens of the longest sequence. rope: RoPE parameters;
    `max_position_embeddings` becomes factor x original_max_position_embeddings. weights: False does not fetch the
    weights of a model on the hub. Idempotent. Raises ModelFolderError.
    """
    file = config_file(model)
    # Only config.json is read here, so that a model is refused before its weights are fetched.
    edited = file is not None and _drop_dual_chunk(_loads(file), model, length)
    if rope is None and not edited:
        return model
    source = _local(model, weights)
    if source.resolve() == target.resolve():
        raise ModelFolderError(
            f"the model is {target} itself. Fix: choose another longrl.output_dir, or move the model"
        )
    if not (source / CONFIG).is_file():
        raise ModelFolderError(f"{source} has no {CONFIG}, so it is not a model folder")
    config = _loads(source / CONFIG)
    left_out = {CONFIG, ORIGIN} | ({SPARSE} if _drop_dual_chunk(config, model, length) else set())
    if rope is not None:
        _scale(config, rope)
    links = {f.name: str(f.resolve()) for f in sorted(source.iterdir()) if f.name not in left_out}
    _write(target, json.dumps(config, indent=2) + "\n", model, links)
    return str(target)


def config_file(model: str) -> Path | None:
    """The config.json of a model: in its folder or, for a name on the hub, in the cache, fetched if the hub answers.

    None where there is none, and for other file systems (hdfs://...).
    """
    if not hub_access.is_hub_name(model):
        file = Path(model) / CONFIG
        return file if file.is_file() else None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, CONFIG, local_files_only=hub_access.is_offline(model)))
    except (OSError, ValueError):
        return None  # not found, not allowed, not cached, or not a valid name


def original_model(model: str) -> str:
    """The model that `prepare_model` made the folder `model` from; `model` itself for any other."""
    origin = _read(Path(model) / ORIGIN)
    return model if origin is None else str(json.loads(origin)["model"])


def find_links_elsewhere(model: str) -> str | None:
    """A folder that a prepared model's links point to, if it is on another file system than the prepared folder.

    Other machines may not see that file system. None otherwise.
    """
    folder = Path(model)
    if not (folder / ORIGIN).is_file():
        return None
    here = folder.stat().st_dev
    targets = (f.resolve().parent for f in sorted(folder.iterdir()) if f.is_symlink() and f.stat().st_dev != here)
    return next(map(str, targets), None)


def _loads(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        raise ModelFolderError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelFolderError(f"{file}: expected a JSON object, found {type(config).__name__}")
    return config


def _text(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a configuration."""
    text: dict[str, Any] = config.get("text_config") or config
    return text


def _drop_dual_chunk(config: dict[str, Any], model: str, length: int) -> bool:
    """Remove the key in place; returns whether there was one. Raises ModelFolderError where that changes the model."""
    removed = False
    for part in (config, _text(config)):
        if DUAL_CHUNK not in part:
            continue
        removed, settings = True, part.pop(DUAL_CHUNK)
        if settings is None:
            continue
        exact = _exact_length(settings, model)
        if length > exact:
            raise ModelFolderError(
                f"{CONFIG} of {model} sets dual chunk attention ({DUAL_CHUNK}: {json.dumps(settings)}), which is plain "
                f"causal attention only up to {exact} tokens. This run has sequences of up to {length} tokens, and "
                "neither the trainer nor the rollout engine implements dual chunk attention. Fix: keep "
                "data.max_prompt_length + data.max_response_length, and actor_rollout_ref.rollout.max_model_len if "
                f"it is set, within {exact}"
            )
    return removed


def exact_length(model: str) -> int | None:
    """Tokens up to which plain causal attention is exact for `model`, prepared or not; None: up to its positions."""
    file = config_file(original_model(model))
    config = {} if file is None else _loads(file)
    blocks = [part.get(DUAL_CHUNK) for part in (config, _text(config))]
    return min((_exact_length(settings, model) for settings in blocks if settings), default=None)


def _exact_length(settings: Mapping[str, Any], model: str) -> int:
    """Tokens up to which dual chunk attention is plain causal attention.

    Beyond chunk_size, chunks are used; beyond original_max_position_embeddings, queries are scaled.
    """
    if not settings.get("chunk_size"):
        raise ModelFolderError(f"{CONFIG} of {model}: {DUAL_CHUNK} = {dict(settings)} has no chunk_size")
    bounds = [settings.get(key) for key in ("chunk_size", "original_max_position_embeddings")]
    return int(min(bound for bound in bounds if bound))


def _local(model: str, weights: bool) -> Path:
    if Path(model).is_dir():
        return Path(model)
    if "://" in model:
        raise ModelFolderError(f"longrl.rope needs the model's files: {model} is remote. Fix: copy it to a folder")
    from huggingface_hub import snapshot_download

    try:
        patterns = None if weights else list(NO_WEIGHTS)
        return Path(snapshot_download(model, allow_patterns=patterns, local_files_only=hub_access.is_offline(model)))
    except (OSError, ValueError) as error:
        raise ModelFolderError(
            f"cannot fetch {model!r}: {str(error).splitlines()[0]}. Fix: give the model's folder"
        ) from error


def _scale(config: dict[str, Any], rope: Mapping[str, Any]) -> None:
    text = _text(config)
    parameters = {"rope_theta": text.get("rope_theta"), **(text.get("rope_parameters") or {}), **rope}
    text["rope_parameters"] = {key: value for key, value in parameters.items() if value is not None}
    text.pop("rope_scaling", None)
    text["max_position_embeddings"] = int(rope["factor"] * rope["original_max_position_embeddings"])


def _write(target: Path, config: str, model: str, links: dict[str, str]) -> None:
    """Create or replace `target` with these files, atomically; does nothing if it is up to date."""
    made_from = str(Path(model).resolve()) if Path(model).is_dir() else model
    origin = json.dumps({"model": made_from, "links": links}, indent=2)
    if _read(target / ORIGIN) == origin and _read(target / CONFIG) == config:
        return
    _make_room(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, file in links.items():
        (aside / name).symlink_to(file)
    (aside / CONFIG).write_text(config)
    (aside / ORIGIN).write_text(origin)
    os.replace(aside, target)


def _read(file: Path) -> str | None:
    return file.read_text() if file.is_file() else None


def _make_room(target: Path) -> None:
    """Remove an earlier prepared folder: its links and its two files. Raises ModelFolderError for any other folder."""
    if not target.exists():
        return
    origin = _read(target / ORIGIN)
    links = json.loads(origin)["links"] if origin else ()
    files = (CONFIG, ORIGIN) if origin else ()
    foreign = [f.name for f in target.iterdir() if f.name not in (links if f.is_symlink() else files)]
    if target.is_symlink() or foreign:
        raise ModelFolderError(
            f"the prepared model is written to {target}, which contains other files "
            f"({', '.join(sorted(foreign)[:3])}). Fix: choose another longrl.output_dir, or move them"
        )
    shutil.rmtree(target)
