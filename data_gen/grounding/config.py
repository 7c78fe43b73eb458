"""The pipeline's configuration: one YAML file, any key of it also as KEY=VALUE on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from verl_longrl.rewards.options import Options, number
from yaml import YAMLError

from data_gen.grounding.answer import Answer, AnswerOptions
from data_gen.grounding.chunk import Chunk, ChunkOptions
from data_gen.grounding.cluster import Cluster, ClusterOptions
from data_gen.grounding.deduplicate import Dedup, DedupOptions
from data_gen.grounding.embed import Embed, EmbedOptions
from data_gen.grounding.export import Export, ExportOptions
from data_gen.grounding.generate import Generate, GenerateOptions
from data_gen.grounding.ingest import Ingest, IngestOptions
from data_gen.grounding.judge import Judge, JudgeOptions
from data_gen.grounding.select import Select, SelectOptions
from data_gen.llm import LLMOptions
from data_gen.pipeline import Stage

STAGES = ("ingest", "dedup", "chunk", "embed", "cluster", "generate", "judge", "answer", "select", "export")
PARTS_OF = "dedup"
"""All ranks wait for this stage; its parts are what they share out."""


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, its value and the fix."""


@dataclass(frozen=True)
class GroundingConfig(Options):
    """seed: of every choice. tokenizer: of the model that will be trained (folder, hub name, or "builtin" for a trial
    of the first stages without a network). part_documents: documents in a part, the unit of resuming. benchmarks: files
    whose texts must not appear in the data. servers: name -> an OpenAI-compatible server (see LLMOptions). The blocks:
    see the stages' options."""

    seed: int = 0
    tokenizer: str = "Qwen/Qwen2.5-7B-Instruct"
    part_documents: int = 64
    benchmarks: tuple[str, ...] = ()
    servers: dict[str, LLMOptions] = field(default_factory=dict)
    ingest: IngestOptions = field(default_factory=IngestOptions)
    dedup: DedupOptions = field(default_factory=DedupOptions)
    chunk: ChunkOptions = field(default_factory=ChunkOptions)
    embed: EmbedOptions = field(default_factory=EmbedOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    generate: GenerateOptions = field(default_factory=GenerateOptions)
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    answer: AnswerOptions = field(default_factory=AnswerOptions)
    select: SelectOptions = field(default_factory=SelectOptions)
    export: ExportOptions = field(default_factory=ExportOptions)

    def __post_init__(self) -> None:
        number("part_documents", self.part_documents, 1, whole=True)
        named = {name: replace(options, name=name) for name, options in self.servers.items()}
        object.__setattr__(self, "servers", named)

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

    def stage(self, name: str, inputs: list[str]) -> Stage:
        """The stage of this name, ready to run. Raises ConfigError, CorpusError (an input that is not there)."""
        match name:
            case "ingest":
                if not inputs:
                    raise ConfigError("stage ingest needs --input: files, folders or hf:NAME")
                return Ingest(self.ingest, inputs, self.tokenizer, self.part_documents, self.benchmarks)
            case "dedup":
                return Dedup(self.dedup)
            case "chunk":
                return Chunk(self.chunk, self.tokenizer)
            case "embed":
                needed = self.embed.backend == "server"
                return Embed(self.embed, self.server(self.embed.server, "embed.server") if needed else None)
            case "cluster":
                return Cluster(self.cluster, self.seed)
            case "generate":
                return Generate(self.generate, self.server(self.generate.server, "generate.server"), self.seed)
            case "judge":
                return Judge(self.judge, self.server(self.judge.server, "judge.server"), self.seed)
            case "answer":
                names = dict.fromkeys((*self.answer.servers, self.answer.grader))
                keys = dict.fromkeys(self.answer.servers, "answer.servers")
                servers = {name: self.server(name, keys.get(name, "answer.grader")) for name in names}
                return Answer(self.answer, self.select, servers, self.seed)
            case "select":
                return Select(self.select, self.benchmarks)
            case "export":
                return Export(self.export, self.tokenizer, self.seed)
        raise ConfigError(f"unknown stage {name}; stages: {', '.join(STAGES)}")


def load(file: Path | None, overrides: Sequence[str]) -> GroundingConfig:
    """The configuration in a YAML file (None: defaults) with `KEY=VALUE` overrides on top.

    Raises:
        ConfigError: unreadable, an unknown key (the nearest valid one is named), or a wrong value.
    """
    if broken := [override for override in overrides if "=" not in override]:
        raise ConfigError(f"{broken[0]!r} is no override; write KEY=VALUE, such as cluster.epsilon=0.25")
    try:
        given = OmegaConf.load(file) if file else OmegaConf.create()
        if not isinstance(given, DictConfig):
            raise ValueError("a list; expected keys such as tokenizer: and servers:")
        merged = OmegaConf.merge(given, OmegaConf.from_dotlist(list(overrides)))
        values: Any = OmegaConf.to_container(merged, resolve=True)
        return GroundingConfig.from_dict(values)
    except (OSError, YAMLError, OmegaConfBaseException, ValueError) as error:
        where = f"{file}: " if file and not isinstance(error, OSError) else ""
        raise ConfigError(f"{where}{error}") from error
