"""Stage export: samples as the project's training parquet, split by document, rendered anew from what was decided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from verl_longrl.data.schema import Sample

from data_gen.export_stage import ExportStage, SplitOptions
from data_gen.multitask.compose import ComposeOptions
from data_gen.multitask.computed_tasks import ABILITIES, data_source
from data_gen.multitask.difficulty import kept
from data_gen.multitask.samples import prompt_of
from data_gen.store import Document, Row, drop


class Export(ExportStage):
    """Row: as every export's. Drops: no_sample."""

    after = ("ingest", "compose", "verify", "difficulty")
    origins = (after,)

    def __init__(self, options: SplitOptions, compose: ComposeOptions, tokenizer: str, seed: int):
        super().__init__(options, tokenizer, compose.max_prompt_tokens, seed)
        self.compose = compose

    def decide(self, name: str, document: Document) -> Row:
        rows = len(kept(document))
        return {"id": name, "rows": rows} if rows else drop(name, "no_sample")

    def samples(self, document: Document) -> Iterator[Sample]:
        for sample, difficulty in kept(document):
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
