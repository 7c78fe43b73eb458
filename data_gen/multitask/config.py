"""The stages of the multi-task pipeline, and what a user may set about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_gen.config import ConfigError, PipelineConfig
from data_gen.grounding.deduplicate import Dedup, DedupOptions
from data_gen.grounding.ingest import Ingest, IngestOptions
from data_gen.multitask.compose import Compose, ComposeOptions
from data_gen.multitask.export import Export
from data_gen.pipeline import Stage
from data_gen.publish import SplitOptions

STAGES = {
    "ingest": "read documents, keep those of 8K to 64K tokens.",
    "dedup": "drop equal and nearly equal documents.",
    "compose": "compute tasks and their answers from each document.",
    "export": "write training parquet, split by document.",
}
PARTS_OF = "dedup"
"""All ranks wait for this stage; its parts are what they share out."""


@dataclass(frozen=True)
class MultitaskConfig(PipelineConfig):
    """The keys of every pipeline, and one block of options for each stage."""

    ingest: IngestOptions = field(default_factory=IngestOptions)
    dedup: DedupOptions = field(default_factory=DedupOptions)
    compose: ComposeOptions = field(default_factory=ComposeOptions)
    export: SplitOptions = field(default_factory=SplitOptions)

    def stage(self, name: str, inputs: list[str]) -> Stage:
        match name:
            case "ingest":
                if not inputs:
                    raise ConfigError("stage ingest needs --input: files, folders or hf:NAME")
                return Ingest(self.ingest, inputs, self.tokenizer, self.part_documents, self.benchmarks)
            case "dedup":
                return Dedup(self.dedup)
            case "compose":
                return Compose(self.compose, self.tokenizer, self.seed)
            case "export":
                return Export(self.export, self.compose, self.tokenizer, self.seed)
        raise ConfigError(f"unknown stage {name}; stages: {', '.join(STAGES)}")
