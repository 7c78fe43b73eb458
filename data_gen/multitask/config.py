"""The stages of the multi-task pipeline, and what a user may set about them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from data_gen.config import ConfigError, PipelineConfig
from data_gen.export_stage import SplitOptions
from data_gen.grounding.dedup import Dedup, DedupOptions
from data_gen.grounding.ingest import Ingest, IngestOptions
from data_gen.llm import LLMOptions
from data_gen.multitask.assign import Assign, AssignOptions
from data_gen.multitask.compose import Compose, ComposeOptions
from data_gen.multitask.difficulty import Difficulty, DifficultyOptions
from data_gen.multitask.export import Export
from data_gen.multitask.pool import Pool
from data_gen.multitask.verify import Verify, VerifyOptions
from data_gen.multitask.write import Write
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.pipeline import Stage

STAGES = {
    "ingest": "read documents, keep those of 8K to 64K tokens.",
    "dedup": "drop equal and nearly equal documents.",
    "pool": "find the tasks that suit each document.",
    "assign": "give each document some of them, balanced over all documents.",
    "compose": "compute tasks and their answers from each document.",
    "write": "have a model write the tasks that cannot be computed.",
    "verify": "have another one confirm what was written.",
    "difficulty": "have models answer, to see how hard each sample is.",
    "export": "write training parquet, split by document.",
}
PARTS_OF = "dedup"
"""All ranks wait for this stage; its parts are what they share out."""


@dataclass(frozen=True)
class MultitaskConfig(PipelineConfig):
    """The keys of every pipeline, and one block of options for each stage; those of pool are in `assign` too."""

    ingest: IngestOptions = field(default_factory=IngestOptions)
    dedup: DedupOptions = field(default_factory=DedupOptions)
    assign: AssignOptions = field(default_factory=AssignOptions)
    compose: ComposeOptions = field(default_factory=ComposeOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    verify: VerifyOptions = field(default_factory=VerifyOptions)
    difficulty: DifficultyOptions = field(default_factory=DifficultyOptions)
    export: SplitOptions = field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.computed and not self.write.wanted:
            raise ConfigError("compose.tasks = [], and write.server names no server: name tasks, or who writes them")

    @property
    def computed(self) -> tuple[str, ...]:
        """The tasks whose answers are computed: those of `compose.tasks` that no model writes."""
        return tuple(task for task in self.compose.tasks if task not in self.write.wanted)

    def stage(self, name: str, inputs: list[str]) -> Stage:
        match name:
            case "ingest":
                if not inputs:
                    raise ConfigError("stage ingest needs --input: files, folders or hf:NAME")
                return Ingest(self.ingest, inputs, self.tokenizer, self.part_documents, self.benchmarks)
            case "dedup":
                return Dedup(self.dedup)
            case "pool":
                return Pool(self.computed, self.write.wanted, self.assign.pools, self.compose)
            case "assign":
                return Assign(self.assign, self.seed)
            case "compose":
                return Compose(replace(self.compose, tasks=self.computed), self.tokenizer, self.seed)
            case "write":
                servers = self._servers(self.write.servers)
                return Write(self.write, self.compose, servers, self.tokenizer, self.benchmarks, self.seed)
            case "verify":
                servers = self._servers(self.verify.servers(self.write.server))
                return Verify(self.verify, self.compose, self.write.server, servers, self.seed)
            case "difficulty":
                named = {"difficulty.small": self.difficulty.small, "difficulty.large": self.difficulty.large}
                return Difficulty(self.difficulty, self._servers(named), self.compose, self.seed)
            case "export":
                return Export(self.export, self.compose, self.tokenizer, self.seed)
        raise ConfigError(f"unknown stage {name}; stages: {', '.join(STAGES)}")

    def _servers(self, named: dict[str, str]) -> dict[str, LLMOptions]:
        """The servers that these keys name, by name; none for a key that names none."""
        return {name: self.server(name, key) for key, name in named.items() if name}
