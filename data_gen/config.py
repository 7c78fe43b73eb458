"""A pipeline's configuration: one YAML file, any key of it also as KEY=VALUE on the command line."""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from verl_longrl import secret_settings
from verl_longrl.rewards.options import Options, number

from data_gen.llm import LLMOptions
from data_gen.pipeline import Stage


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, its value and the fix."""


@dataclass(frozen=True)
class PipelineConfig(Options, ABC):
    """What all pipelines have; a pipeline's own adds a block of options for each of its stages.

    seed: of every choice. tokenizer: of the model that will be trained (folder, hub name, or "builtin" for a trial of
    the first stages without a network). part_documents: documents in a part, the unit of resuming. benchmarks: files
    whose texts must not appear in the data. servers: name -> an OpenAI-compatible server (see LLMOptions)."""

    seed: int = 0
    tokenizer: str = "Qwen/Qwen2.5-7B-Instruct"
    part_documents: int = 64
    benchmarks: tuple[str, ...] = ()
    servers: dict[str, LLMOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        number("part_documents", self.part_documents, 1, whole=True)
        named = {name: replace(options, name=name) for name, options in self.servers.items()}
        object.__setattr__(self, "servers", named)

    @abstractmethod
    def stage(self, name: str, inputs: list[str]) -> Stage:
        """The stage of this name, ready to run. Raises ConfigError, CorpusError (an input that is not there)."""

    def server(self, name: str, key: str) -> LLMOptions:
        """The server that `key` names. Raises ConfigError when there is none."""
        if name in self.servers:
            return self.servers[name]
        near = difflib.get_close_matches(name, self.servers, n=1, cutoff=0.0)
        known = f"the nearest of those defined is {near[0]}" if near else "no server is defined"
        raise ConfigError(
            f"{key} = {name}, and {known}; define it with servers.{name}.endpoints=[http://HOST:8000/v1] (and "
            ".model=NAME where it serves several)"
        )

    @classmethod
    def load(cls, file: Path | None, overrides: Sequence[str]) -> Self:
        """The configuration in a YAML file (None: defaults) with `KEY=VALUE` overrides on top.

        Raises:
            ConfigError: unreadable, an unknown key (the nearest valid one is named), a wrong value, or a secret.
        """
        if broken := [override for override in overrides if "=" not in override]:
            raise ConfigError(f"{broken[0]!r} is no override; write KEY=VALUE, such as seed=1")
        try:
            given = OmegaConf.load(file) if file else OmegaConf.create()
            if not isinstance(given, DictConfig):
                raise ValueError("a list; expected keys such as tokenizer: and servers:")
            merged = OmegaConf.merge(given, OmegaConf.from_dotlist(list(overrides)))
            values: Any = OmegaConf.to_container(merged, resolve=True)
            secret_settings.refuse_secrets(values)
            return cls.from_dict(values)
        except (OSError, yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            where = f"{file}: " if file and not isinstance(error, OSError) else ""
            raise ConfigError(f"{where}{error}") from error

    def yaml(self) -> str:
        """The file that gives this configuration."""
        return _yaml(self._plain())

    @classmethod
    def default_yaml(cls) -> str:
        """All keys with their defaults, as a file to start from; `servers` with one to fill in."""
        values = cls()._plain()
        values["servers"] = {"default": {"endpoints": ["http://localhost:8000/v1"], "model": ""}}
        return _yaml(values)

    def _plain(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for server in values["servers"].values():
            server.pop("name")
        return values


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
