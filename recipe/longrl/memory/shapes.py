"""A model's shape without its weights: from its folder, a JSON file like its config.json, the hub or its cache.

Where the hub cannot be reached, the models that `config/model/*.yaml` name are taken from `shapes.json`: published
figures, of which only sizes matter here.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from recipe.longrl import hub_access

TABLE = Path(__file__).with_name("shapes.json")


class ShapeError(ValueError):
    """A model whose shape cannot be read; the message names it and the fix."""


class Shape(NamedTuple):
    """A Hugging Face config, and in words where it is from."""

    config: Any
    source: str


def read(model: DictConfig) -> Shape:
    """The shape of a `model` node of the configuration (verl's keys: path, hf_config_path, trust_remote_code).

    Raises ShapeError.
    """
    path = str(model.hf_config_path or model.path)
    here = Path(path).exists()
    cached = hub_access.offline(path)
    try:
        source = path if here else f"{path}, {'from the cache' if cached else 'on the hub'}"
        return Shape(_load(path, model.trust_remote_code, cached), source)
    except (OSError, ValueError) as error:
        figures = published(path)
        if figures is not None:
            return Shape(figures, f"{path}, published figures: its config.json cannot be fetched")
        reason = "the hub cannot be reached" if cached else str(error).splitlines()[0]
        raise ShapeError(
            f"cannot read the shape of {path!r}: {reason}. Give its folder, or a JSON file like its config.json, as "
            f"actor_rollout_ref.model.path; known without the hub: {', '.join(json.loads(TABLE.read_text()))}"
        ) from error


def published(path: str) -> Any | None:
    """The Hugging Face config of a model of `shapes.json`, by its name on the hub; None for any other."""
    from transformers import AutoConfig

    figures = json.loads(TABLE.read_text()).get(path)
    return None if figures is None else AutoConfig.for_model(**figures)


def _load(path: str, trust_remote_code: bool, cached: bool) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, local_files_only=cached)
