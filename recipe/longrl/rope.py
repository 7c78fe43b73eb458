"""One RoPE scaling for trainer and vLLM: a model folder whose config.json says it, the rest linked.

Both engines read the folder they are given, so they cannot disagree; handing the setting to each engine in its own way
(upstream's `override_config` and vLLM's `hf_overrides`) can, and then rollout and trainer log-probabilities drift apart
without an error. Checkpoints and the export carry the setting along. The folder says which model it was made of, and is
made again when that or the scaling changes.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG, ORIGIN = "config.json", "longrl_origin.json"
NO_WEIGHTS = ("*.json", "*.jinja", "*.model", "*.py", "*.tiktoken", "*.txt")
"""What of a model on a hub a dry run fetches: configuration and tokenizer."""


class RopeError(ValueError):
    """No folder with this scaling can be made; the message names the place and the fix."""


def with_rope(model: str, rope: Mapping[str, Any], target: Path, *, weights: bool = True) -> Path:
    """Make `target` a folder like `model` (a folder, or a name on the Hugging Face hub) with `rope` in its config.

    `max_position_embeddings` becomes factor x original_max_position_embeddings. Idempotent. weights: False fetches no
    weights of a model on a hub. Raises RopeError.
    """
    source = _local(model, weights)
    if source.resolve() == target.resolve():
        raise RopeError(f"the model is {target} itself; choose another longrl.output_dir, or keep the model elsewhere")
    if not (source / CONFIG).is_file():
        raise RopeError(f"{source} has no {CONFIG}, so it is no model folder")
    links = {f.name: str(f.resolve()) for f in sorted(source.iterdir()) if f.name not in (CONFIG, ORIGIN)}
    config = json.dumps(_scaled(json.loads((source / CONFIG).read_text()), rope), indent=2) + "\n"
    origin = json.dumps({"model": str(source.resolve()) if Path(model).is_dir() else model, "links": links}, indent=2)
    if _read(target / ORIGIN) == origin and _read(target / CONFIG) == config:
        return target
    _make_room(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, file in links.items():
        (aside / name).symlink_to(file)
    (aside / CONFIG).write_text(config)
    (aside / ORIGIN).write_text(origin)
    os.replace(aside, target)
    return target


def origin(model: str) -> str:
    """The model that the folder `model` was made of by `with_rope`; any other model is its own origin."""
    written = _read(Path(model) / ORIGIN)
    return model if written is None else str(json.loads(written)["model"])


def _local(model: str, weights: bool) -> Path:
    if Path(model).is_dir():
        return Path(model)
    if "://" in model:
        raise RopeError(f"longrl.rope needs the model's files at hand, {model} is remote; copy it to a local folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=None if weights else list(NO_WEIGHTS)))
    except (OSError, ValueError) as error:
        raise RopeError(f"cannot fetch {model!r}: {str(error).splitlines()[0]}; give the model's folder") from error


def _scaled(config: dict[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
    text = config.get("text_config", config)
    parameters = {"rope_theta": text.get("rope_theta"), **(text.get("rope_parameters") or {}), **rope}
    text["rope_parameters"] = {key: value for key, value in parameters.items() if value is not None}
    text.pop("rope_scaling", None)
    text["max_position_embeddings"] = int(rope["factor"] * rope["original_max_position_embeddings"])
    return config


def _read(file: Path) -> str | None:
    return file.read_text() if file.is_file() else None


def _make_room(target: Path) -> None:
    """Remove an earlier folder of ours: links and the two files written here. Refuse anything else."""
    if not target.exists():
        return
    foreign = [f.name for f in target.iterdir() if not f.is_symlink() and f.name not in (CONFIG, ORIGIN)]
    if foreign:
        raise RopeError(
            f"{target} is where the model with longrl.rope goes, and holds files of another origin "
            f"({', '.join(sorted(foreign)[:3])}); choose another longrl.output_dir, or move them"
        )
    shutil.rmtree(target)
