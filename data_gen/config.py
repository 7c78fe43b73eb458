"""The configuration of a data pipeline: one YAML file, any key of which can also be given as KEY=VALUE."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl import secret_settings
from verl_longrl.options import Options

from data_gen.llm import LLMOptions

Block = TypeVar("Block", bound=Options)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, its value and the fix."""


def read_values(file: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The values in a YAML file (None: an empty one), changed by `KEY=VALUE` overrides, as plain dictionaries.

    Raises OSError, YAMLError, OmegaConfBaseException, and ValueError when the file is a list or has a secret in it.
    """
    loaded = OmegaConf.load(file) if file else OmegaConf.create()
    if not isinstance(loaded, DictConfig):
        raise ValueError("the file is a list; expected keys such as tokenizer: or sources:")
    values: Any = OmegaConf.to_container(OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(overrides))), resolve=True)
    secret_settings.refuse_secrets(values)
    return values


@contextmanager
def config_errors(file: Path | None) -> Iterator[None]:
    """Turn whatever is wrong with a configuration into a ConfigError that names the file."""
    try:
        yield
    except (OSError, yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        where = f"{file}: " if file and not isinstance(error, OSError) else ""
        raise ConfigError(f"{where}{error}") from error


def to_yaml(values: Mapping[str, Any]) -> str:
    """Values as a YAML file, keys in their order."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120)


@dataclass(frozen=True)
class PipelineConfig(Options):
    """The keys that every pipeline has. `of_stages` adds a block of options for each of a pipeline's stages."""

    seed: int = 0
    """Seed of every random choice."""
    tokenizer: str = "Qwen/Qwen2.5-7B-Instruct"
    """The tokenizer of the model to be trained: a folder, a name on the hub, or "builtin" to try the first stages
    without a network."""
    part_documents: PositiveInt = 64
    """Documents in a part, the unit of resuming."""
    benchmarks: tuple[str, ...] = ()
    """Files whose texts must not appear in the data."""
    servers: dict[str, LLMOptions] = field(default_factory=dict)
    """Name -> an OpenAI-compatible server."""
    stages: ClassVar[tuple[Any, ...]] = ()
    """The pipeline's stages: subclasses of data_gen.pipeline.PipelineStage."""

    def __post_init__(self) -> None:
        named = {name: replace(options, name=name) for name, options in self.servers.items()}
        object.__setattr__(self, "servers", named)
        for stage in self.stages:
            stage.check_config(self)

    @classmethod
    def of_stages(cls, name: str, stages: Sequence[Any]) -> type[PipelineConfig]:
        """The configuration class of a pipeline: the common keys, then the blocks of its stages in their order."""
        blocks = {key: kind for stage in stages for key, kind in stage.blocks.items()}
        fields = {key: field(default_factory=kind) for key, kind in blocks.items()}
        constants = {"stages": tuple(stages), "__module__": cls.__module__, "__doc__": cls.__doc__}
        made: Any = dataclass(frozen=True)(type(name, (cls,), {"__annotations__": blocks, **fields, **constants}))
        return made

    def block(self, kind: type[Block]) -> Block:
        """The block of options of this class, such as ChunkOptions. Raises KeyError when no stage has such a block."""
        for value in vars(self).values():
            if type(value) is kind:
                return value
        raise KeyError(kind.__name__)

    def server(self, name: str, key: str) -> LLMOptions:
        """The server that the configuration key `key` names. Raises ConfigError when it is not defined."""
        if name in self.servers:
            return self.servers[name]
        near = difflib.get_close_matches(name, self.servers, n=1, cutoff=0.0)
        known = f"not defined (the nearest name is {near[0]})" if near else "not defined, and neither is any other"
        raise ConfigError(
            f"{key} = {name}: this server is {known}. Fix: set servers.{name}.endpoints=[http://HOST:8000/v1] (and "
            "its model=NAME if it serves several models)"
        )

    def named_servers(self, names: Mapping[str, str]) -> dict[str, LLMOptions]:
        """The servers named by configuration keys (key -> name), by name; keys with an empty name are left out."""
        return {name: self.server(name, key) for key, name in names.items() if name}

    @classmethod
    def load(cls, file: Path | None, overrides: Sequence[str]) -> Self:
        """The configuration in a YAML file (None: the defaults), changed by `KEY=VALUE` overrides.

        Raises:
            ConfigError: an unreadable file, an unknown key (the nearest valid one is named), a wrong value, a secret.
        """
        if malformed := [override for override in overrides if "=" not in override]:
            raise ConfigError(f"{malformed[0]!r}: expected KEY=VALUE, such as seed=1")
        with config_errors(file):
            return cls.from_dict(read_values(file, overrides))

    def yaml(self) -> str:
        """The file that gives this configuration."""
        return to_yaml(self._as_dict())

    @classmethod
    def default_yaml(cls) -> str:
        """All keys with their defaults, as a file to start from, with one server to fill in."""
        values = cls()._as_dict()
        values["servers"] = {"default": {"endpoints": ["http://localhost:8000/v1"], "model": ""}}
        return to_yaml(values)

    def _as_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for server in values["servers"].values():
            server.pop("name")
        return values
