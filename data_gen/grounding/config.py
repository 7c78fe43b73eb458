"""The stages of the grounding pipeline, and what a user may set about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_gen.config import ConfigError, PipelineConfig
from data_gen.grounding.answer import Answer, AnswerOptions
from data_gen.grounding.chunk import Chunk, ChunkOptions
from data_gen.grounding.cluster import Cluster, ClusterOptions
from data_gen.grounding.dedup import Dedup, DedupOptions
from data_gen.grounding.embed import Embed, EmbedOptions
from data_gen.grounding.export import Export, ExportOptions
from data_gen.grounding.generate import Generate, GenerateOptions
from data_gen.grounding.ingest import Ingest, IngestOptions
from data_gen.grounding.judge import Judge, JudgeOptions
from data_gen.grounding.select import Select, SelectOptions
from data_gen.pipeline import Stage

STAGES = {
    "ingest": "read documents, keep those of 8K to 64K tokens.",
    "dedup": "drop equal and nearly equal documents.",
    "chunk": "split documents into chunks.",
    "embed": "embed the chunks.",
    "cluster": "cluster the chunks of each document by meaning.",
    "generate": "have a model write questions about clusters.",
    "judge": "have a model rate the questions.",
    "answer": "have models answer the best, without and with the document.",
    "select": "choose the best question of each document.",
    "export": "write training parquet, split by document.",
}
PARTS_OF = "dedup"
"""All ranks wait for this stage; its parts are what they share out."""


@dataclass(frozen=True)
class GroundingConfig(PipelineConfig):
    """The keys of every pipeline, and one block of options for each stage."""

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
