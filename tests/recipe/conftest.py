"""The run configuration, composed as the command line composes it."""

import copy
import functools

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from recipe.longrl import settings

GROUPS = tuple(f"{group}=" for group in settings.GROUPS)


@pytest.fixture(scope="session", autouse=True)
def _yaml_in_c():
    """Read YAML in C: a composition reads 30 files, which takes PyYAML's Python parser most of that time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
        yield


@functools.cache
def composed_groups(groups: tuple[str, ...]) -> DictConfig:
    return settings.compose(list(groups))


def compose_quickly(overrides: list[str]) -> DictConfig:
    """`settings.compose`, with the composition of the groups, which takes nearly all of its time, done once."""
    groups = tuple(sorted(override for override in overrides if override.startswith(GROUPS)))
    keys = [override for override in overrides if override not in groups]
    try:
        parsed = OverridesParser.create().parse_overrides([settings.force_free_key(key) for key in keys])
        config = copy.deepcopy(composed_groups(groups))
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
    except (HydraException, settings.SettingsError):
        return settings.compose(overrides)  # which says what is wrong
    return config


@pytest.fixture(scope="session")
def composed():
    """compose(overrides) -> DictConfig, with placeholders for what a user must give."""

    def make(*overrides: str, given: bool = True) -> DictConfig:
        needed = ["data.train_files=[train.parquet]", "data.val_files=[val.parquet]"] if given else []
        if given and not any(o.startswith("model=") for o in overrides):
            needed.append("actor_rollout_ref.model.path=some/model")
        return compose_quickly([*needed, *overrides])

    return make
