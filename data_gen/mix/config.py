"""What a mix is made of: sources, each with files and how many of their rows, and what holds for all of them."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from verl_longrl import secret_settings
from verl_longrl.rewards.options import Options, choice, number

from data_gen.config import ConfigError
from data_gen.document_readers import CorpusError
from data_gen.importers.layouts import Layout


@dataclass(frozen=True)
class SourceOptions(Options):
    """files: one or several, also as patterns (books/*.parquet). layout: of their rows (see imports/layouts.py); auto
    looks at each file's first row. count: rows to take; or weight: a share of what the total leaves for weights; with
    neither, all usable rows. repeat: whether rows may come again when there are too few."""

    single_or_list: ClassVar[frozenset[str]] = frozenset({"files"})
    files: tuple[str, ...] = ()
    layout: Layout = "auto"
    count: int | None = None
    weight: float | None = None
    repeat: bool = False

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files: a source without files; name at least one")
        choice(f"{self.name}: layout", self.layout, Layout)
        if self.count is not None:
            number(f"{self.name}: count", self.count, 1, whole=True)
        if self.weight is not None:
            number(f"{self.name}: weight", self.weight, 0, 1e9, open_low=True)
        if self.count is not None and self.weight is not None:
            raise ValueError(f"{self.name}: count = {self.count} and weight = {self.weight:g}; give one of them")

    @property
    def name(self) -> str:
        """What messages and the report call it."""
        return ", ".join(self.files)

    def paths(self) -> list[Path]:
        """Its files. Raises CorpusError for one that is not there."""
        found: list[Path] = []
        for file in self.files:
            matching = [file] if Path(file).is_file() else sorted(glob.glob(file))
            if not any(Path(path).is_file() for path in matching):
                raise CorpusError(
                    f"{file}: no such file; correct the path, or give a pattern such as 'folder/*.parquet'"
                )
            found += [Path(path) for path in matching if Path(path).is_file()]
        return found

    @classmethod
    def parse(cls, text: str) -> dict[str, Any]:
        """PATH or PATH:KEY=VALUE,KEY=VALUE as values for `from_dict`. Raises ConfigError."""
        path, _, settings = text.rpartition(":")
        if not path or "=" not in settings:
            return {"files": text}
        values: dict[str, Any] = {}
        for setting in settings.split(","):
            key, equals, value = setting.partition("=")
            if not equals:
                raise ConfigError(
                    f"{text}: {setting!r} is no KEY=VALUE; write PATH:weight=2 or PATH:layout=math,count=9"
                )
            values[key] = yaml.safe_load(value)
        return {**values, "files": path}


@dataclass(frozen=True)
class MixConfig(Options):
    """sources: what is mixed. total: rows of the mix; weights share what counts leave of it. seed: of the choice and
    the order. tokenizer: of the model that will be trained. max_prompt_tokens: longer rows are dropped (None: no
    limit). benchmarks: files whose texts must not be asked. scorers: modules or files with your own scorers, so that
    rows with their data_source are known."""

    sources: tuple[SourceOptions, ...] = ()
    total: int | None = None
    seed: int = 0
    tokenizer: str = "Qwen/Qwen2.5-7B-Instruct"
    max_prompt_tokens: int | None = None
    benchmarks: tuple[str, ...] = ()
    scorers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("total", "max_prompt_tokens"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), 1, whole=True)
        if not self.sources:
            raise ValueError("sources: none; name files, such as keychain.parquet:weight=2 mathqa.json:count=2500")
        weighted = next((source for source in self.sources if source.weight is not None), None)
        if weighted and self.total is None:
            raise ValueError(f"{weighted.name}: weight = {weighted.weight:g} is a share of a total; give the total too")
        if self.total is not None and not weighted:
            raise ValueError(f"total = {self.total}, and no source has a weight to share it; give one, or no total")

    @classmethod
    def load(cls, file: Path | None, sources: Sequence[str], **given: Any) -> Self:
        """The configuration in a YAML file, with what is `given` (not None) and any `sources` in place of the file's.

        Raises:
            ConfigError: unreadable, an unknown key (the nearest valid one is named), a wrong value, or a secret.
        """
        try:
            loaded = OmegaConf.load(file) if file else OmegaConf.create()
            if not isinstance(loaded, DictConfig):
                raise ValueError("a list; expected keys such as sources: and total:")
            values: Any = OmegaConf.to_container(loaded, resolve=True)
            secret_settings.refuse_secrets(values)
            values |= {key: value for key, value in given.items() if value is not None}
            if sources:
                values["sources"] = [SourceOptions.parse(source) for source in sources]
            return cls.from_dict(values)
        except (OSError, yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            where = f"{file}: " if file and not isinstance(error, OSError) else ""
            raise ConfigError(f"{where}{error}") from error

    def yaml(self) -> str:
        """The file that gives this configuration."""
        return yaml.safe_dump(json.loads(json.dumps(asdict(self))), sort_keys=False, allow_unicode=True, width=120)


def names(paths: Sequence[Path]) -> dict[Path, str]:
    """Each file's name, with as many of its folders as tell it from the others: a/train.parquet and b/train.parquet."""
    parts = {path: Path(os.path.abspath(path)).parts for path in paths}

    def name(path: Path) -> str:
        for length in range(1, len(parts[path])):
            tail = parts[path][-length:]
            if sum(other[-length:] == tail for other in parts.values()) == 1:
                return "/".join(tail)
        return str(path)

    return {path: name(path) for path in paths}
