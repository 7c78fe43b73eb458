"""Stage export: samples as the project's training parquet, split by document, rendered anew from what was decided."""

from __future__ import annotations

from collections.abc import Iterator

from verl_longrl.data.schema import Sample

from data_gen.multitask.compose import ComposeOptions, passages_of, prompt
from data_gen.multitask.tasks import ABILITIES, data_source
from data_gen.multitask.tasks.task import Made
from data_gen.publish import ExportStage, SplitOptions
from data_gen.store import Document, Row


class Export(ExportStage):
    """Row: as every export's."""

    after = ("ingest", "compose")
    origins = (after,)

    def __init__(self, options: SplitOptions, compose: ComposeOptions, tokenizer: str, seed: int):
        super().__init__(options, tokenizer, compose.max_prompt_tokens, seed)
        self.compose = compose

    def decide(self, name: str, document: Document) -> Row:
        return {"id": name, "rows": len(document["compose"]["samples"])}

    def samples(self, document: Document) -> Iterator[Sample]:
        passages = passages_of(document["ingest"]["text"], self.compose)
        for row in document["compose"]["samples"]:
            yield self._sample(document["ingest"], row, passages)

    def _sample(self, ingest: Row, row: Row, passages: list[str]) -> Sample:
        made = Made(neighbour=None, **{name: row[name] for name in Made._fields if name != "neighbour"})
        start, end = row["window"]
        return Sample(
            data_source=data_source(row["task"]),
            prompt=prompt(passages[start:end], made),
            ground_truth=made.gold,
            index=0,
            question=made.question,
            task=data_source(row["task"]),
            ability=ABILITIES[row["task"]],
            payload={
                "document": ingest["id"],
                "source": ingest["source"],
                "meta": ingest["meta"],
                "kind": made.kind,
                "window": row["window"],
                "passages": len(passages),
            },
            prompt_tokens=row["prompt_tokens"],
        )
