"""Stage export: write the prompts as training parquet, split so that no evidence is in both files, and proven."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from verl_longrl.data.schema import Sample

from data_gen.config import PipelineConfig
from data_gen.export_stage import ExportStage, SplitOptions
from data_gen.grounded_qa.composer import GroundedComposeOptions
from data_gen.grounded_qa.evidence_split import hold_out_evidence
from data_gen.grounded_qa.fill import DATA_SOURCE, GroundedFillOptions
from data_gen.grounded_qa.proof import prove_file
from data_gen.keychain.passage_pool import digest64, passage_body
from data_gen.keychain.prompts import messages
from data_gen.store import Document, Row

MOST_TOKENS = 2**31 - 1
"""Prompts of a number of chunks may have any length that a row can state."""


class GroundedQAExportStage(ExportStage):
    """Row: that of ExportStage."""

    summary = "write training parquet, split by evidence."
    blocks: ClassVar = {"export": SplitOptions}
    after = ("questions", "haystack", "fill")
    origins = (after,)

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        fill, compose = config.block(GroundedFillOptions), config.block(GroundedComposeOptions)
        longest = MOST_TOKENS if fill.chunks else max(fill.length)
        return cls(config.block(SplitOptions), config.tokenizer, longest, config.seed, compose.chat_template_kwargs)

    def decide(self, name: str, document: Document) -> Row:
        return {"id": name, "rows": len(document["fill"]["prompts"]), "evidence": evidence_keys(document)}

    def hold_out(self, rows: Mapping[str, Row]) -> set[str]:
        evidence = {name: row["evidence"] for name, row in rows.items()}
        sizes = {name: row["rows"] for name, row in rows.items()}
        return hold_out_evidence(evidence, sizes, self.options.val_fraction, self.seed)

    def check_file(self, unchecked: Path) -> None:
        prove_file(unchecked)

    def samples(self, document: Document) -> Iterator[Sample]:
        question, fill = document["questions"], document["fill"]
        payload: dict[str, Any] = {
            "document": question["id"],
            "source": question["source"],
            "question_id": question["question_id"],
            "hops": len(document["haystack"]["gold"]),
            "evidence": document["haystack"]["evidence"],
            "evidence_passages": [key for key in evidence_keys(document) if not key.startswith("article ")],
            "answer_found": fill["answer_found"],
        }
        for prompt in fill["prompts"]:
            number, unit = prompt["size"]
            yield Sample(
                data_source=DATA_SOURCE,
                prompt=messages(prompt["text"]),
                ground_truth=question["answers"],
                index=0,
                question=question["question"],
                task=DATA_SOURCE,
                ability="grounded_qa",
                ref_chunks=prompt["ref_chunks"],
                ref_chunks_text=prompt["ref_chunks_text"],
                num_chunks=prompt["num_chunks"],
                payload={
                    **payload,
                    f"max_{unit}": number,
                    "leaks": prompt["leaks"] if fill["leaks_known"] else None,
                    **{key: prompt[key] for key in ("passages", "in_passage")},
                },
                prompt_tokens=prompt["tokens"],
            )


def evidence_keys(document: Document) -> list[str]:
    """Keys that questions with the same evidence share: a digest of each passage with evidence, and the article."""
    question = document["questions"]
    passages = [passage for passage in question["passages"] if passage["evidence"]]
    keys = [f"{digest64(passage_body(passage['title'], passage['text'])):016x}" for passage in passages]
    return keys + [f"article {question['group']}"] * bool(question["group"])
