"""The run configuration, composed as the command line composes it."""

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig


@pytest.fixture(scope="session")
def composed():
    """compose(overrides) -> DictConfig, with placeholders for what a user must give."""

    def make(*overrides: str, given: bool = True) -> DictConfig:
        needed = ["data.train_files=[train.parquet]", "data.val_files=[val.parquet]"] if given else []
        if given and not any(o.startswith("model=") for o in overrides):
            needed.append("actor_rollout_ref.model.path=some/model")
        with initialize_config_module("recipe.longrl.config", version_base=None):
            return compose("longrl_trainer", overrides=[*needed, *overrides])

    return make
