"""Stage export: prompts as the project's training parquet, split by question; retrieval rows by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from verl_longrl.data.schema import Sample

from data_gen.export_stage import ExportStage
from data_gen.keychain import prompts
from data_gen.keychain.needles import KINDS
from data_gen.store import Document

DATA_SOURCES = {"keychain": "loongrl_keychain", "plain": "loongrl_qa"} | dict.fromkeys(KINDS, "loongrl_retrieval")


class Export(ExportStage):
    """Row: as every export's. The last stage of each origin makes the prompts."""

    after = ("questions", "fill", "retrieval")
    origins = (("questions", "fill"), ("retrieval",))

    def samples(self, document: Document) -> Iterator[Sample]:
        made = document.get("fill") or document["retrieval"]
        asked = document.get("questions", made)  # a retrieval row has its own question
        task = DATA_SOURCES[made["kind"]]
        yield Sample(
            data_source=task,
            prompt=prompts.messages(made["prompt"]),
            ground_truth=asked["answers"],
            index=0,
            question=asked["question"],
            task=task,
            ability="longcontext_qa",
            payload={
                "document": asked["id"],
                "source": asked["source"],
                **{key: made[key] for key in ("passages", "gold_at", "keys")},
            },
            prompt_tokens=made["prompt_tokens"],
        )
