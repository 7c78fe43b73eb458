"""Read a model's shape without its weights: from its folder, a JSON file like its config.json, or the hub or its cache.

If the hub cannot be reached, the models of `config/model/*.yaml` are read from `shapes.json`: published figures, of
which only sizes matter here.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from recipe.longrl import hub_access
from recipe.longrl.pypi_models import PypiModelError, local_folder

TABLE = Path(__file__).with_name("shapes.json")


class ShapeError(ValueError):
    """A model's shape cannot be read. The message names the model and the fix."""


class ModelShape(NamedTuple):
    """A Hugging Face config, and its source as a message for users."""

    config: Any
    source: str


def read_shape(model: DictConfig) -> ModelShape:
    """The shape of the model in a `model` node of the configuration.

    The keys are verl's: path, hf_config_path, trust_remote_code. Raises ShapeError.
    """
    try:
        path = local_folder(str(model.hf_config_path or model.path))
    except PypiModelError as error:
        raise ShapeError(str(error)) from error
    is_local = Path(path).exists()
    cached = hub_access.is_offline(path)
    try:
        source = path if is_local else f"{path}, {'from the cache' if cached else 'on the hub'}"
        return ModelShape(_load(path, model.trust_remote_code, cached), source)
    except (OSError, ValueError) as error:
        figures = published_config(path)
        if figures is not None:
            return ModelShape(figures, f"{path}, published figures, because its config.json cannot be fetched")
        reason = "the hub cannot be reached" if cached else str(error).splitlines()[0]
        raise ShapeError(
            f"actor_rollout_ref.model.path = {path!r}: cannot read the model's shape: {reason}. Fix: set it to the "
            "model's folder, or to a JSON file like its config.json. Known without the hub: "
            f"{', '.join(json.loads(TABLE.read_text()))}"
        ) from error


def published_config(path: str) -> Any | None:
    """The Hugging Face config of a model in `shapes.json`, by its name on the hub; None for other models."""
    from transformers import AutoConfig

    figures = json.loads(TABLE.read_text()).get(path)
    return None if figures is None else AutoConfig.for_model(**figures)


def _load(path: str, trust_remote_code: bool, cached: bool) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, local_files_only=cached)
