"""A model's shape without its weights: from its folder, a JSON file like its config.json, the hub or its cache.

Where the hub cannot be reached, the models that `config/model/*.yaml` name are taken from `shapes.json`: published
figures, of which only sizes matter here.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

TABLE = Path(__file__).with_name("shapes.json")


class ShapeError(ValueError):
    """A model whose shape cannot be read; the message names it and the fix."""


class Shape(NamedTuple):
    """A Hugging Face config, and in words where it is from."""

    config: Any
    source: str


def read(model: DictConfig) -> Shape:
    """The shape of a `model` node of the configuration (upstream's keys: path, hf_config_path, trust_remote_code).

    Raises ShapeError.
    """
    path = str(model.hf_config_path or model.path)
    here = Path(path).exists()
    cached = not here and _unreachable()
    try:
        source = path if here else f"{path}, {'from the cache' if cached else 'on the hub'}"
        return Shape(_load(path, model.trust_remote_code, cached), source)
    except (OSError, ValueError) as error:
        published = json.loads(TABLE.read_text())
        if path in published:
            return Shape(_of(published[path]), f"{path}, published figures: its config.json cannot be fetched")
        reason = "the hub cannot be reached" if cached else str(error).splitlines()[0]
        raise ShapeError(
            f"cannot read the shape of {path!r}: {reason}. Give its folder, or a JSON file like its config.json, as "
            f"actor_rollout_ref.model.path; known without the hub: {', '.join(published)}"
        ) from error


def _load(path: str, trust_remote_code: bool, cached: bool) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, local_files_only=cached)


def _of(values: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(**values)


def _unreachable(timeout_s: float = 3.0) -> bool:
    """Whether the hub is offline by choice (HF_HUB_OFFLINE), has no address or does not answer. Asked once, for its
    client goes on trying for half a minute; behind a proxy, that has to find out."""
    import socket
    import urllib.request
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    hub = urlsplit(constants.ENDPOINT)
    if hub.scheme in urllib.request.getproxies():
        return False
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout_s).close()
    except OSError:
        return True
    return False
