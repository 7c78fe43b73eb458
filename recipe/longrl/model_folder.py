"""The model folder that trainer and rollout engine both read, where config.json must differ from the model's own.

Both engines read the folder they are given, so they cannot disagree; handing a setting to each engine in its own way
(verl's `override_config` and vLLM's `hf_overrides`) can, and then rollout and trainer log-probabilities drift apart
without an error. Checkpoints and the export inherit the edited config. Two things are edited:

- RoPE scaling (`longrl.rope`).
- `dual_chunk_attention_config` (Qwen2.5-1M models), which is left out, with the sparse_attention_config.json beside it.
  No attention backend of vLLM 0.24 or later takes that key, and transformers never computed it. Up to `chunk_size`
  tokens dual chunk attention is plain causal attention; longer runs are refused.

The prepared folder holds links to the model's other files. It says which model it was made of, and is made again when
that or the edited config changes.
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
"""What of a model on a hub a dry run fetches: configuration and tokenizer."""


class ModelFolderError(ValueError):
    """No folder can be made of this model, or none that both engines compute; the message has the value and the fix."""


def prepared(
    model: str, target: Path, *, length: int, rope: Mapping[str, Any] | None = None, weights: bool = True
) -> str:
    """The model to run: `model` itself (a folder, or a name on the Hugging Face hub), or `target`, made a folder like
    it with an edited config.json.

    length: tokens of the longest sequence. rope: RoPE parameters; `max_position_embeddings` becomes factor x
    original_max_position_embeddings. weights: False fetches no weights of a model on a hub. Idempotent.
    Raises ModelFolderError.
    """
    file = config_file(model)
    # looked at alone: nothing may have to change, and a refusal comes before weights are fetched
    edited = file is not None and _drop_dual_chunk(_loads(file), model, length)
    if rope is None and not edited:
        return model
    source = _local(model, weights)
    if source.resolve() == target.resolve():
        raise ModelFolderError(
            f"the model is {target} itself; choose another longrl.output_dir, or keep the model elsewhere"
        )
    if not (source / CONFIG).is_file():
        raise ModelFolderError(f"{source} has no {CONFIG}, so it is no model folder")
    config = _loads(source / CONFIG)
    left_out = {CONFIG, ORIGIN} | ({SPARSE} if _drop_dual_chunk(config, model, length) else set())
    if rope is not None:
        _scale(config, rope)
    links = {f.name: str(f.resolve()) for f in sorted(source.iterdir()) if f.name not in left_out}
    _write(target, json.dumps(config, indent=2) + "\n", model, links)
    return str(target)


def config_file(model: str) -> Path | None:
    """The config.json of a model: in its folder or, of a name on the hub, in the cache, after a look at the hub where
    that answers. None where there is none, and for another file system's (hdfs://...)."""
    if not hub_access.is_name(model):
        file = Path(model) / CONFIG
        return file if file.is_file() else None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, CONFIG, local_files_only=hub_access.offline(model)))
    except (OSError, ValueError):  # not there, not allowed, not cached, no name of a model
        return None


def origin(model: str) -> str:
    """The model that the folder `model` was made of by `prepared`; any other model is its own origin."""
    written = _read(Path(model) / ORIGIN)
    return model if written is None else str(json.loads(written)["model"])


def linked_elsewhere(model: str) -> str | None:
    """A folder that a prepared model's files are linked from and that is on another file system than the prepared
    folder itself, so that other machines may not see it. None for any other model."""
    folder = Path(model)
    if not (folder / ORIGIN).is_file():
        return None
    here = folder.stat().st_dev
    apart = (f.resolve().parent for f in sorted(folder.iterdir()) if f.is_symlink() and f.stat().st_dev != here)
    return next(map(str, apart), None)


def _loads(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        raise ModelFolderError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelFolderError(f"{file} holds a {type(config).__name__}, expected an object")
    return config


def _text(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that is the language model's."""
    text: dict[str, Any] = config.get("text_config") or config
    return text


def _drop_dual_chunk(config: dict[str, Any], model: str, length: int) -> bool:
    """Take the key out, in place; whether there was one. Raises ModelFolderError where that would change the model."""
    found = False
    for part in (config, _text(config)):
        if DUAL_CHUNK not in part:
            continue
        found, settings = True, part.pop(DUAL_CHUNK)
        if settings is None:
            continue
        exact = _exact_length(settings, model)
        if length > exact:
            raise ModelFolderError(
                f"{CONFIG} of {model} asks for dual chunk attention ({DUAL_CHUNK}: {json.dumps(settings)}), which is "
                f"plain causal attention up to {exact} tokens only. This run has sequences of up to {length}, and "
                "neither the trainer nor the rollout engine computes dual chunk attention. Fix: keep "
                "data.max_prompt_length + data.max_response_length, and actor_rollout_ref.rollout.max_model_len if "
                f"it is set, within {exact}"
            )
    return found


def exact_length(model: str) -> int | None:
    """Tokens up to which `model`, prepared or not, computes what its own config.json asks for; None: as far as its
    positions reach."""
    file = config_file(origin(model))
    config = {} if file is None else _loads(file)
    asked = [part.get(DUAL_CHUNK) for part in (config, _text(config))]
    return min((_exact_length(settings, model) for settings in asked if settings), default=None)


def _exact_length(settings: Mapping[str, Any], model: str) -> int:
    """Up to how many tokens dual chunk attention is plain causal attention: beyond the second bound, queries are
    scaled."""
    if not settings.get("chunk_size"):
        raise ModelFolderError(f"{CONFIG} of {model}: {DUAL_CHUNK} = {dict(settings)} has no chunk_size")
    bounds = [settings.get(key) for key in ("chunk_size", "original_max_position_embeddings")]
    return int(min(bound for bound in bounds if bound))


def _local(model: str, weights: bool) -> Path:
    if Path(model).is_dir():
        return Path(model)
    if "://" in model:
        raise ModelFolderError(f"longrl.rope needs the model's files at hand, {model} is remote; copy it to a folder")
    from huggingface_hub import snapshot_download

    try:
        patterns = None if weights else list(NO_WEIGHTS)
        return Path(snapshot_download(model, allow_patterns=patterns, local_files_only=hub_access.offline(model)))
    except (OSError, ValueError) as error:
        raise ModelFolderError(
            f"cannot fetch {model!r}: {str(error).splitlines()[0]}; give the model's folder"
        ) from error


def _scale(config: dict[str, Any], rope: Mapping[str, Any]) -> None:
    text = _text(config)
    parameters = {"rope_theta": text.get("rope_theta"), **(text.get("rope_parameters") or {}), **rope}
    text["rope_parameters"] = {key: value for key, value in parameters.items() if value is not None}
    text.pop("rope_scaling", None)
    text["max_position_embeddings"] = int(rope["factor"] * rope["original_max_position_embeddings"])


def _write(target: Path, config: str, model: str, links: dict[str, str]) -> None:
    """Make `target` the folder of these, at once; left alone where it is already."""
    made_of = str(Path(model).resolve()) if Path(model).is_dir() else model
    made = json.dumps({"model": made_of, "links": links}, indent=2)
    if _read(target / ORIGIN) == made and _read(target / CONFIG) == config:
        return
    _make_room(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, file in links.items():
        (aside / name).symlink_to(file)
    (aside / CONFIG).write_text(config)
    (aside / ORIGIN).write_text(made)
    os.replace(aside, target)


def _read(file: Path) -> str | None:
    return file.read_text() if file.is_file() else None


def _make_room(target: Path) -> None:
    """Remove an earlier folder of ours: the links and the two files that its origin tells of. Refuse anything else."""
    if not target.exists():
        return
    made = _read(target / ORIGIN)
    links = json.loads(made)["links"] if made else ()
    files = (CONFIG, ORIGIN) if made else ()
    foreign = [f.name for f in target.iterdir() if f.name not in (links if f.is_symlink() else files)]
    if target.is_symlink() or foreign:
        raise ModelFolderError(
            f"{target} is where the prepared model goes, and holds files of another origin "
            f"({', '.join(sorted(foreign)[:3])}); choose another longrl.output_dir, or move them"
        )
    shutil.rmtree(target)
