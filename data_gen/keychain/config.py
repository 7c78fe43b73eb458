"""The stages of the KeyChain pipeline, and what a user may set about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_gen.config import ConfigError, PipelineConfig
from data_gen.export_stage import SplitOptions
from data_gen.keychain.chains import ChainOptions
from data_gen.keychain.export import Export
from data_gen.keychain.fill import Fill, FillOptions
from data_gen.keychain.filter import Filter, FilterOptions
from data_gen.keychain.haystack import Gather, HaystackOptions
from data_gen.keychain.needles import RetrievalOptions
from data_gen.keychain.prompt_composer import ComposeOptions
from data_gen.keychain.questions import Questions, QuestionsOptions
from data_gen.keychain.retrieval import Retrieval
from data_gen.pipeline import Stage

STAGES = {
    "questions": "read questions with their passages (HotpotQA, 2WikiMultihopQA, MuSiQue, JSON Lines).",
    "haystack": "gather the passages that prompts are filled with.",
    "filter": "have a model answer, and keep what it sometimes gets right.",
    "fill": "make prompts of the wanted length, half of them behind chains of keys.",
    "retrieval": "make prompts in which needles are to be found, where any are asked for.",
    "export": "write training parquet, split by question.",
}
PARTS_OF = "questions"
"""All ranks wait for this stage; its parts are what they share out."""


@dataclass(frozen=True)
class KeychainConfig(PipelineConfig):
    """The keys of every pipeline, and the blocks of options of the stages; fill has two more, compose and chains, of
    which compose holds for retrieval too."""

    questions: QuestionsOptions = field(default_factory=QuestionsOptions)
    haystack: HaystackOptions = field(default_factory=HaystackOptions)
    filter: FilterOptions = field(default_factory=FilterOptions)
    fill: FillOptions = field(default_factory=FillOptions)
    compose: ComposeOptions = field(default_factory=ComposeOptions)
    chains: ChainOptions = field(default_factory=ChainOptions)
    retrieval: RetrievalOptions = field(default_factory=RetrievalOptions)
    export: SplitOptions = field(default_factory=SplitOptions)

    def stage(self, name: str, inputs: list[str]) -> Stage:
        match name:
            case "questions":
                if not inputs:
                    raise ConfigError("stage questions needs --input: files of questions")
                return Questions(self.questions, inputs, self.tokenizer, self.part_documents, self.benchmarks)
            case "haystack":
                return Gather(self.haystack, self.tokenizer, self.benchmarks)
            case "filter":
                named = {"filter.server": self.filter.server, "filter.rescue": self.filter.rescue}
                servers = {server: self.server(server, key) for key, server in named.items() if server}
                return Filter(self.filter, servers, self.seed)
            case "fill":
                return Fill(self.fill, self.compose, self.chains, self.tokenizer, self.seed)
            case "retrieval":
                return Retrieval(self.retrieval, self.compose, self.tokenizer, self.part_documents, self.seed)
            case "export":
                return Export(self.export, self.tokenizer, self.compose.max_prompt_tokens, self.seed)
        raise ConfigError(f"unknown stage {name}; stages: {', '.join(STAGES)}")
