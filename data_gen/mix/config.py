"""The configuration of a mix: its sources, each with files and a number of rows, and options for all of them."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from annotated_types import Gt, Le
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import OneOrMore, OptionError, Options

from data_gen.config import ConfigError, config_errors, read_values, to_yaml
from data_gen.document_readers import CorpusError
from data_gen.importers.layouts import Layout


@dataclass(frozen=True)
class SourceOptions(Options):
    """One source of a mix: files, and the number of their rows to take."""

    files: OneOrMore = ()
    """One or several files, also as patterns (books/*.parquet)."""
    layout: Layout = "auto"
    """Layout of the rows (see importers/layouts.py). With auto, each file's first row decides."""
    count: PositiveInt | None = None
    """Rows to take. Without count and weight, all usable rows are taken."""
    weight: Annotated[float, Gt(0), Le(1e9)] | None = None
    """Share of the rows that the counts leave of the total, in relation to the other weights."""
    repeat: bool = False
    """Sample rows with replacement if there are too few."""

    def __post_init__(self) -> None:
        if not self.files:
            raise OptionError("files", [], "a source needs at least one file", "name one, such as train.parquet")
        if self.count is not None and self.weight is not None:
            raise OptionError("weight", self.weight, f"{self.name} has a count too ({self.count})", "set one of them")

    @property
    def name(self) -> str:
        """The name of the source in messages and in the report."""
        return ", ".join(self.files)

    def paths(self) -> list[Path]:
        """Its files. Raises CorpusError for a file or pattern without a match."""
        paths: list[Path] = []
        for file in self.files:
            matching = [file] if Path(file).is_file() else sorted(glob.glob(file))
            if not any(Path(path).is_file() for path in matching):
                raise CorpusError(
                    f"{file}: no such file. Fix: correct the path, or give a pattern such as 'folder/*.parquet'"
                )
            paths += [Path(path) for path in matching if Path(path).is_file()]
        return paths

    @classmethod
    def parse(cls, text: str) -> dict[str, Any]:
        """PATH or PATH:KEY=VALUE,KEY=VALUE as values for `from_dict`. Raises ConfigError."""
        # The last colon, because a path may contain others. Without KEY=VALUE after it, all of the text is the path.
        path, _, settings = text.rpartition(":")
        if not path or "=" not in settings:
            return {"files": text}
        values: dict[str, Any] = {}
        for setting in settings.split(","):
            key, equals, value = setting.partition("=")
            if not equals:
                raise ConfigError(
                    f"{text}: {setting!r}: expected KEY=VALUE, as in PATH:weight=2 or PATH:layout=math,count=9"
                )
            values[key] = yaml.safe_load(value)
        return {**values, "files": path}


@dataclass(frozen=True)
class MixConfig(Options):
    """A mix of several sources in one training file."""

    sources: tuple[SourceOptions, ...] = ()
    """The sources, at least one."""
    total: PositiveInt | None = None
    """Rows of the mix, if sources have weights. The weights share the rows that the counts leave."""
    seed: int = 0
    """Seed of the choice and the order of rows."""
    tokenizer: str = "Qwen/Qwen2.5-7B-Instruct"
    """The tokenizer of the model to be trained: a folder or a name on the hub."""
    max_prompt_tokens: PositiveInt | None = None
    """Rows with longer prompts are dropped; null: no limit."""
    benchmarks: tuple[str, ...] = ()
    """Files whose texts must not appear in the mix."""
    scorers: tuple[str, ...] = ()
    """Modules or files with scorers of your own, so that rows with their data_source are accepted."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise OptionError(
                "sources", [], "expected files", "name some, such as keychain.parquet:weight=2 mathqa.json:count=2500"
            )
        weighted = next((source for source in self.sources if source.weight is not None), None)
        if weighted and self.total is None:
            raise OptionError("total", None, f"{weighted.name} has a weight, which is a share of the total", "set it")
        if self.total is not None and not weighted:
            raise OptionError("total", self.total, "no source has a weight to share it", "set a weight, or no total")

    @classmethod
    def load(cls, file: Path | None, sources: Sequence[str], **options: Any) -> Self:
        """The configuration in a YAML file, in which `options` (unless None) and `sources` (if any) replace values.

        Raises:
            ConfigError: an unreadable file, an unknown key (the nearest valid one is named), a wrong value, a secret.
        """
        with config_errors(file):
            values = read_values(file)
            values |= {key: value for key, value in options.items() if value is not None}
            if sources:
                values["sources"] = [SourceOptions.parse(source) for source in sources]
            return cls.from_dict(values)

    def yaml(self) -> str:
        """The file that gives this configuration."""
        return to_yaml(json.loads(json.dumps(asdict(self))))


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each file: its own name, after as many of its folders as are needed to distinguish it from the others,
    such as a/train.parquet and b/train.parquet."""
    parts = {path: Path(os.path.abspath(path)).parts for path in paths}

    def name(path: Path) -> str:
        for length in range(1, len(parts[path])):
            tail = parts[path][-length:]
            # Of one file alone: its own path is among `parts`.
            if sum(other[-length:] == tail for other in parts.values()) == 1:
                return "/".join(tail)
        return str(path)

    return {path: name(path) for path in paths}
