"""The settings of an evaluation: a profile, the model and the client, from flags and overrides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.longrl.evaluation.client import ClientOptions
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.models import ModelOptions
from recipe.longrl.evaluation.plan import RECORD
from recipe.longrl.evaluation.profiles import Profile, ProfileError, SetOptions, choose_sets, read_profile

SUITES = "evaluate"
"""The folder of a training run with what its suites answered (`suites.py`)."""


@dataclass(frozen=True)
class Settings:
    """The sets to measure, the model, and how the servers are used."""

    profile: Profile
    sets: dict[str, SetOptions]
    model: ModelOptions
    client: ClientOptions


def read_settings(profile: str, sets: Iterable[str], overrides: Sequence[str], model: Mapping[str, Any]) -> Settings:
    """Read the settings. Raises EvaluationError with the key, the value and the fix.

    overrides: `model.KEY=VALUE`, `client.KEY=VALUE`, and for the profile `sets.NAME.KEY=VALUE` or `seed=VALUE`.
    model: values of flags, None where a flag is not used; they win over overrides.
    """
    of_profile: list[str] = []
    groups: dict[str, list[str]] = {"model": [], "client": []}
    for override in overrides:
        if "=" not in override:
            raise ProfileError(f"{override}: not an override. Fix: KEY=VALUE, such as sets.frames.limit=10")
        group, _, rest = override.partition(".")
        groups.get(group, of_profile).append(rest if group in groups else override)
    read = read_profile(profile, of_profile)
    chosen = choose_sets(read, list(sets))
    try:
        of_model = ModelOptions.from_dict(_merge(groups["model"], model), "model.")
        return Settings(read, chosen, of_model, ClientOptions.from_dict(_merge(groups["client"], {}), "client."))
    except ValueError as error:
        raise EvaluationError(str(error)) from error


def seen_in_training(settings: Settings) -> Iterator[str]:
    """A line for each set with rows that the model's training run looked at (longrl.evaluate)."""
    model = Path(settings.model.model).resolve()
    looked_at: dict[str, Path] = {}
    # The model may be the run's folder, its export, or in a checkpoint.
    for run in (model, *list(model.parents)[:4]) if settings.model.model and model.is_dir() else ():
        for record in run.glob(f"{SUITES}/step_*/*/{RECORD}"):
            looked_at.setdefault(json.loads(record.read_text())["benchmark"], run)
    for name, suite in settings.sets.items():
        if suite.slice != "reported" and suite.benchmark in looked_at:
            yield (
                f"{name}: the training run {looked_at[suite.benchmark]} evaluated rows of {suite.benchmark} at its "
                f"checkpoints, so slice {suite.slice} has rows that may have chosen the checkpoint. Fix: report "
                f"sets.{name}.slice=reported"
            )


def _merge(overrides: list[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    try:
        values: Any = OmegaConf.to_container(OmegaConf.from_dotlist(overrides), resolve=True)
    except (OmegaConfBaseException, ValueError) as error:
        raise ProfileError(f"{overrides}: {error}") from error
    return {**values, **{name: value for name, value in flags.items() if value not in (None, (), [])}}
