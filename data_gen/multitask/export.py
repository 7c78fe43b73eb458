"""Stage export: write samples as training parquet, split by document; prompts are rendered again from the documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from verl_longrl.data.schema import Sample

from data_gen.config import PipelineConfig
from data_gen.export_stage import ExportStage, SplitOptions
from data_gen.multitask.compose import TaskComposeOptions
from data_gen.multitask.computed_tasks import ABILITIES, data_source
from data_gen.multitask.difficulty import kept_samples
from data_gen.multitask.samples import prompt_of
from data_gen.store import Document, Row, dropped_row


class MultitaskExportStage(ExportStage):
    """Row: that of ExportStage. Drops: no_sample."""

    after = ("ingest", "compose", "verify", "difficulty")
    origins = (after,)

    def __init__(self, options: SplitOptions, compose: TaskComposeOptions, tokenizer: str, seed: int):
        super().__init__(options, tokenizer, compose.max_prompt_tokens, seed)
        self.compose = compose

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        return cls(config.block(SplitOptions), config.block(TaskComposeOptions), config.tokenizer, config.seed)

    def decide(self, name: str, document: Document) -> Row:
        rows = len(kept_samples(document))
        return {"id": name, "rows": rows} if rows else dropped_row(name, "no_sample")

    def samples(self, document: Document) -> Iterator[Sample]:
        for sample, difficulty in kept_samples(document):
            yield self._sample(document, sample, difficulty)

    def _sample(self, document: Document, sample: Row, difficulty: dict[str, Any]) -> Sample:
        ingest, task = document["ingest"], sample["task"]
        written = {key: sample[key] for key in ("evidence", "explanation", "checked") if sample.get(key)}
        return Sample(
            data_source=data_source(task),
            prompt=prompt_of(document, sample, self.compose),
            ground_truth=sample["gold"],
            index=0,
            question=sample["question"],
            task=data_source(task),
            ability=ABILITIES[task],
            payload={
                "document": ingest["id"],
                "source": ingest["source"],
                "meta": ingest["meta"],
                "sample": sample["id"],
                "kind": sample["kind"],
                "window": sample["window"],
                **written,
                **difficulty,
            },
            prompt_tokens=sample["prompt_tokens"],
        )
