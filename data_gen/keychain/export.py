"""Stage export: write prompts as training parquet, split by question; retrieval rows are split separately."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from verl_longrl.data.schema import Sample

from data_gen.config import PipelineConfig
from data_gen.export_stage import ExportStage, SplitOptions
from data_gen.keychain import prompts
from data_gen.keychain.needles import KINDS
from data_gen.keychain.prompt_composer import PromptComposeOptions
from data_gen.store import Document

DATA_SOURCES = {"keychain": "loongrl_keychain", "plain": "loongrl_qa"} | dict.fromkeys(KINDS, "loongrl_retrieval")


class KeychainExportStage(ExportStage):
    """Row: that of ExportStage. The last stage of each origin makes the prompts."""

    summary = "write training parquet, split by question."
    after = ("questions", "fill", "retrieval")
    origins = (("questions", "fill"), ("retrieval",))

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        max_tokens = config.block(PromptComposeOptions).max_prompt_tokens
        return cls(config.block(SplitOptions), config.tokenizer, max_tokens, config.seed)

    def samples(self, document: Document) -> Iterator[Sample]:
        prompt = document.get("fill") or document["retrieval"]
        # A row of stage retrieval has its own question and answers.
        question = document.get("questions", prompt)
        task = DATA_SOURCES[prompt["kind"]]
        yield Sample(
            data_source=task,
            prompt=prompts.messages(prompt["prompt"]),
            ground_truth=question["answers"],
            index=0,
            question=question["question"],
            task=task,
            ability="longcontext_qa",
            payload={
                "document": question["id"],
                "source": question["source"],
                **{key: prompt[key] for key in ("passages", "gold_at", "keys")},
            },
            prompt_tokens=prompt["prompt_tokens"],
        )
