"""What a curriculum's stages are: a file names them in order, the command line adds to all of them or to one.

    warmup:
      overrides: [trainer.total_epochs=1]
    stage2:
      mine: {rollouts: 8}
      overrides: [trainer.total_epochs=9]

An override that begins with a stage's name and a dot (`stage2.trainer.total_epochs=5`, `stage2.mine.rollouts=16`) is
that stage's alone, and wins; any other is every stage's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic.dataclasses import dataclass as option_group
from verl_longrl.options import Options

from recipe.longrl import settings
from recipe.longrl.curriculum.mining import MineOptions

SHIPPED = resources.files("recipe.longrl.config") / "curriculum"
_OF_A_STAGE = re.compile(r"([+~]*)([\w-]+)\.(.*)", re.DOTALL)


@option_group(frozen=True)
class StageFile(Options):
    """A stage in a curriculum's file."""

    overrides: tuple[str, ...] = ()
    """Overrides of this stage's run, as on the command line."""
    mine: MineOptions | None = None
    """null: the stage trains on all rows."""


@dataclass(frozen=True)
class Stage:
    """A stage to run: `config` composed of `overrides`. It begins with the weights in `before`, which the stage before
    exports; the first (None) with the model that was given."""

    name: str
    overrides: tuple[str, ...]
    config: DictConfig
    mine: MineOptions | None
    before: Path | None

    @property
    def folder(self) -> Path:
        return Path(self.config.longrl.output_dir)

    @property
    def export(self) -> Path:
        """Where its last weights will be."""
        return self.folder / "export"

    @property
    def marker(self) -> Path:
        """Written when the stage is done."""
        return self.folder / "done.json"


@dataclass
class Plan:
    """Stages in order, under one folder."""

    name: str
    folder: Path
    stages: list[Stage] = field(default_factory=list)


def read(arguments: Sequence[str]) -> Plan:
    """The plan of a command line. Raises SettingsError for what does not exist or does not compose."""
    given = [argument for argument in arguments if argument.startswith("curriculum=")]
    files = _stages((given or ["curriculum=loongrl-7b"])[-1].partition("=")[2])
    common: list[str] = []
    own: dict[str, list[str]] = {name: [] for name in files}
    for argument in (argument for argument in arguments if argument not in given):
        match = _OF_A_STAGE.fullmatch(argument)
        if match and match[2] in files:
            own[match[2]].append(match[1] + match[3])
        else:
            common.append(argument)
    if not any(argument.startswith("method=") for argument in common):
        common.insert(0, "method=loongrl")
    run = settings.compose(common)
    if clash := sorted(set(files) & set(run)):
        raise settings.SettingsError(f"a stage cannot be called {clash[0]}: that is a section of a run's configuration")
    plan = Plan(run.trainer.experiment_name, settings.run_folders(run)[0])
    checkpoints = _given(common, "trainer.default_local_dir")
    before: Path | None = None
    for name, stage in files.items():
        mine = [argument for argument in own[name] if argument.startswith("mine.")]
        overrides = (
            *common,
            *stage.overrides,
            *(argument for argument in own[name] if argument not in mine),
            f"trainer.experiment_name={plan.name}-{name}",
            f"longrl.output_dir={quoted(plan.folder / name)}",
            *([f"trainer.default_local_dir={quoted(Path(checkpoints) / name)}"] if checkpoints else []),
            *([f"actor_rollout_ref.model.path={quoted(before)}"] if before else []),
        )
        plan.stages.append(_stage(name, overrides, _mine(name, stage.mine, mine), before))
        before = plan.stages[-1].export
    return plan


def _stage(name: str, overrides: tuple[str, ...], mine: MineOptions | None, before: Path | None) -> Stage:
    try:
        config = settings.compose(list(overrides))
    except settings.SettingsError as error:
        raise settings.SettingsError(f"stage {name}: {error}") from error
    if not config.longrl.export or config.trainer.save_freq <= 0:
        raise settings.SettingsError(
            f"stage {name}: longrl.export = {config.longrl.export} and trainer.save_freq = {config.trainer.save_freq}; "
            "the next stage begins with what this one exports: export must be true and save_freq above 0"
        )
    return Stage(name, overrides, config, mine, before)


def _stages(name: str) -> dict[str, StageFile]:
    """The stages of a file, or of a curriculum that is shipped, in order."""
    shipped = {path.name.removesuffix(".yaml"): path for path in SHIPPED.iterdir() if path.name.endswith(".yaml")}
    if name.endswith((".yaml", ".yml")):
        try:
            text = Path(name).read_text()
        except OSError as error:
            raise settings.SettingsError(f"curriculum={name} cannot be read: {error.strerror}") from error
    elif name in shipped:
        text = shipped[name].read_text()
    else:
        near = difflib.get_close_matches(name, shipped, n=1, cutoff=0.0)
        raise settings.SettingsError(
            f"curriculum={name} is none of {', '.join(sorted(shipped))} (nearest: {near[0]}), nor a .yaml file"
        )
    try:
        found: Any = OmegaConf.to_container(OmegaConf.create(text))
        if not isinstance(found, dict) or not found:
            raise ValueError("expected stages by name, each with overrides: [...]")
        if bad := [stage for stage in found if not re.fullmatch(r"[\w-]+", str(stage))]:
            raise ValueError(f"{bad[0]!r} cannot name a stage: use letters, digits, _ and -")
        return {str(stage): StageFile.from_dict(values, f"{stage}.") for stage, values in found.items()}
    except Exception as error:
        raise settings.SettingsError(f"curriculum={name}: {error}") from error


def _mine(name: str, own: MineOptions | None, given: list[str]) -> MineOptions | None:
    if not given:
        return own
    try:
        values = settings.plain(OmegaConf.from_dotlist([argument.removeprefix("mine.") for argument in given]))
        return MineOptions.from_dict({**(vars(own) if own else {}), **values}, f"{name}.mine.")
    except ValueError as error:
        raise settings.SettingsError(str(error)) from error


def _given(overrides: Sequence[str], key: str) -> str | None:
    found = [
        override.partition("=")[2].strip("'\"") for override in overrides if override.lstrip("+").startswith(f"{key}=")
    ]
    return found[-1] if found else None


def quoted(path: Path) -> str:
    """A path as a value of Hydra's."""
    text = str(path).replace("'", "\\'")
    return f"'{text}'"
