"""The run configuration, composed as the command line composes it."""

import pytest
from omegaconf import DictConfig

from recipe.longrl import settings


@pytest.fixture(scope="session")
def composed():
    """compose(overrides) -> DictConfig, with placeholders for what a user must give."""

    def make(*overrides: str, given: bool = True) -> DictConfig:
        needed = ["data.train_files=[train.parquet]", "data.val_files=[val.parquet]"] if given else []
        if given and not any(o.startswith("model=") for o in overrides):
            needed.append("actor_rollout_ref.model.path=some/model")
        return settings.compose([*needed, *overrides])

    return make
