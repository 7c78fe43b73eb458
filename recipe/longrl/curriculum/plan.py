"""Read a curriculum: a file lists its stages in order, and the command line adds overrides to all or one of them.

    coldstart:
      sft: {train_files: [demos.parquet], steps: 10}
    warmup:
      overrides: [trainer.total_epochs=1]
    stage2:
      mine: {rollouts: 8}
      overrides: [trainer.total_epochs=9]

An override that begins with a stage's name and a dot (`stage2.trainer.total_epochs=5`, `stage2.mine.rollouts=16`,
`coldstart.sft.lr=1e-5`) applies to that stage only and takes precedence. All other overrides apply to every stage. A
stage with `sft` is supervised fine-tuning on demonstrations (`recipe.longrl.sft`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic.dataclasses import dataclass as option_group
from verl_longrl.options import OptionError, Options

from recipe.longrl import settings
from recipe.longrl.curriculum.mining import MineOptions
from recipe.longrl.override_files import write_value
from recipe.longrl.sft.options import SftOptions

SHIPPED = resources.files("recipe.longrl.config") / "curriculum"
GROUPS = ("mine.", "sft.")
"""Beginnings of overrides that are options of a stage, not of its run."""
_STAGE_OVERRIDE = re.compile(r"([+~]*)([\w-]+)\.(.*)", re.DOTALL)
"""Hydra's prefix (+, ++, ~), the possible name of a stage, and the rest."""


@option_group(frozen=True)
class StageOptions(Options):
    """A stage in a curriculum's file."""

    overrides: tuple[str, ...] = ()
    """Overrides of this stage's run, as on the command line."""
    mine: MineOptions | None = None
    """null: the stage trains on all rows."""
    sft: SftOptions | None = None
    """Supervised fine-tuning on demonstrations; null: reinforcement learning."""

    def __post_init__(self) -> None:
        if self.mine is not None and self.sft is not None:
            problem = "a stage with sft trains on demonstrations, which are not mined"
            raise OptionError("mine", asdict(self.mine), problem, "leave out one of them")


@dataclass(frozen=True)
class CurriculumStage:
    """A stage to run, with the configuration that its overrides compose to."""

    name: str
    overrides: tuple[str, ...]
    config: DictConfig
    mine: MineOptions | None
    sft: SftOptions | None
    initial_weights: Path | None
    """The export of the stage before; None for the first stage, which starts from the given model."""

    @property
    def folder(self) -> Path:
        return Path(self.config.longrl.output_dir)

    @property
    def export(self) -> Path:
        """The folder of its final weights."""
        return self.folder / "export"

    @property
    def marker(self) -> Path:
        """The file that is written when the stage is done."""
        return self.folder / "done.json"


@dataclass
class CurriculumPlan:
    """Stages in order, under one folder."""

    name: str
    folder: Path
    stages: list[CurriculumStage] = field(default_factory=list)


def read_plan(arguments: Sequence[str]) -> CurriculumPlan:
    """The plan of a command line. Raises SettingsError for a stage or key that does not exist."""
    choices = [argument for argument in arguments if argument.startswith("curriculum=")]
    # The last choice counts, as with Hydra's own overrides.
    stages = _read_stages((choices or ["curriculum=loongrl-7b"])[-1].partition("=")[2])
    common: list[str] = []
    of_stage: dict[str, list[str]] = {name: [] for name in stages}
    for argument in arguments:
        if argument in choices:
            continue
        # `+stage2.trainer.x=1` is `+trainer.x=1` for stage2.
        match = _STAGE_OVERRIDE.fullmatch(argument)
        if match and match[2] in stages:
            of_stage[match[2]].append(match[1] + match[3])
        else:
            common.append(argument)
    if not any(argument.startswith("method=") for argument in common):
        common.insert(0, "method=loongrl")
    # Composed without the stages' overrides, for the name of the whole and for the names of a configuration's sections.
    run = settings.compose(common)
    # `trainer.x=1` could mean the section or a stage of that name.
    if clash := sorted(set(stages) & set(run)):
        raise settings.SettingsError(f"a stage cannot be called {clash[0]}: that is a section of a run's configuration")
    plan = CurriculumPlan(run.trainer.experiment_name, settings.run_folders(run)[0])
    checkpoints = _last_value(common, "trainer.default_local_dir")
    initial_weights: Path | None = None
    for name, stage in stages.items():
        of_groups = [override for override in of_stage[name] if override.startswith(GROUPS)]
        # Later overrides win: the command line's for this stage, then the keys that chain the stages.
        overrides = (
            *common,
            *stage.overrides,
            *(override for override in of_stage[name] if override not in of_groups),
            f"trainer.experiment_name={plan.name}-{name}",
            f"longrl.output_dir={write_value(plan.folder / name)}",
            *([f"trainer.default_local_dir={write_value(Path(checkpoints) / name)}"] if checkpoints else []),
            *([f"actor_rollout_ref.model.path={write_value(initial_weights)}"] if initial_weights else []),
        )
        plan.stages.append(_compose_stage(name, overrides, _merge_options(name, stage, of_groups), initial_weights))
        # The folder may not exist yet: this stage writes it before the next one starts.
        initial_weights = plan.stages[-1].export
    return plan


def _compose_stage(
    name: str, overrides: tuple[str, ...], options: StageOptions, initial_weights: Path | None
) -> CurriculumStage:
    try:
        config = settings.compose(list(overrides))
    except settings.SettingsError as error:
        raise settings.SettingsError(f"stage {name}: {error}") from error
    # A supervised run always writes a checkpoint at its end.
    if not config.longrl.export or (options.sft is None and config.trainer.save_freq <= 0):
        raise settings.SettingsError(
            f"stage {name}: longrl.export = {config.longrl.export}, trainer.save_freq = {config.trainer.save_freq}: "
            "the next stage starts from this stage's export. Fix: longrl.export=true and a positive trainer.save_freq"
        )
    return CurriculumStage(name, overrides, config, options.mine, options.sft, initial_weights)


def _read_stages(name: str) -> dict[str, StageOptions]:
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
        # With cutoff 0 there is always a nearest name.
        nearest = difflib.get_close_matches(name, shipped, n=1, cutoff=0.0)[0]
        raise settings.SettingsError(
            f"curriculum={name} is unknown; the nearest is {nearest} (known: {', '.join(sorted(shipped))}, or a .yaml "
            "file)"
        )
    try:
        stages: Any = OmegaConf.to_container(OmegaConf.create(text))
        if not isinstance(stages, dict) or not stages:
            raise ValueError("expected stages by name, each with overrides: [...]")
        if invalid := [stage for stage in stages if not re.fullmatch(r"[\w-]+", str(stage))]:
            raise ValueError(f"{invalid[0]!r} cannot name a stage: use letters, digits, _ and -")
        return {str(stage): StageOptions.from_dict(values, f"{stage}.") for stage, values in stages.items()}
    except Exception as error:
        raise settings.SettingsError(f"curriculum={name}: {error}") from error


def _merge_options(name: str, of_file: StageOptions, overrides: list[str]) -> StageOptions:
    """A stage's options, with those of the command line above those of the file."""
    if not overrides:
        return of_file
    groups: dict[str, Any] = {"mine": of_file.mine and asdict(of_file.mine), "sft": of_file.sft and asdict(of_file.sft)}
    try:
        given: Any = OmegaConf.merge(OmegaConf.create(groups), OmegaConf.from_dotlist(overrides))
        merged = {**vars(of_file), **settings.plain(given)}
        return StageOptions.from_dict(merged, f"{name}.")
    except ValueError as error:
        raise settings.SettingsError(str(error)) from error


def _last_value(overrides: Sequence[str], key: str) -> str | None:
    """The value that the last override of this key sets, or None."""
    values = [
        # `+key=value` and `++key=value` set the same key.
        override.partition("=")[2].strip("'\"")
        for override in overrides
        if override.lstrip("+").startswith(f"{key}=")
    ]
    return values[-1] if values else None
