"""Stage export: prompts as the project's training parquet, split by question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from verl_longrl.data.schema import Sample
from verl_longrl.rewards.options import Options, number

from data_gen.keychain import prompts
from data_gen.pipeline import WholeStage
from data_gen.progress import Advance
from data_gen.publish import held_out, prompt_counter, publish
from data_gen.store import Document, Row, Store

DATA_SOURCES = {"keychain": "loongrl_keychain", "plain": "loongrl_qa"}


@dataclass(frozen=True)
class ExportOptions(Options):
    """val_fraction: share of questions held out, at least one when it is above 0."""

    val_fraction: float = 0.02

    def __post_init__(self) -> None:
        number("export.val_fraction", self.val_fraction, 0, 0.9)


class Export(WholeStage):
    """Row: nothing. Writes train.parquet and val.parquet beside the stages."""

    name = "export"
    after = ("questions", "fill")

    def __init__(self, options: ExportOptions, tokenizer: str, max_tokens: int, seed: int):
        self.options, self.tokenizer, self.max_tokens, self.seed = options, tokenizer, max_tokens, seed

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, "tokenizer": self.tokenizer, **self.named(self.options)}

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        self.fingerprint = prompt_counter(self.tokenizer).fingerprint
        parts, names = store.parts("fill"), []
        counts: Counter[str] = Counter()
        for part in parts:
            rows: list[Row] = [{"id": row["id"]} for row in store.read("fill", part) if "drop" not in row]
            names += [row["id"] for row in rows]
            counts += store.write(self.name, part, rows)
            advance()
        val = held_out(names, self.options.val_fraction, self.seed)
        rows_of = {"train": len(names) - len(val), "val": len(val)}
        counts.update({f"{split} rows": number for split, number in rows_of.items()})
        publish(store, self.name, rows_of, partial(self._samples, store, parts, val), self.max_tokens)
        return counts

    def _samples(self, store: Store, parts: list[str], val: set[str], split: str) -> Iterator[Sample]:
        index = 0
        for part in parts:
            for document in store.documents(part, self.after):
                if (document["fill"]["id"] in val) == (split == "val"):
                    yield self._sample(document, split, index)
                    index += 1

    def _sample(self, document: Document, split: str, index: int) -> Sample:
        row, filled = document["questions"], document["fill"]
        task = DATA_SOURCES[filled["kind"]]
        return Sample(
            data_source=task,
            prompt=prompts.messages(filled["prompt"]),
            ground_truth=row["answers"],
            index=index,
            split=split,
            question=row["question"],
            task=task,
            ability="longcontext_qa",
            payload={
                "document": row["id"],
                "source": row["source"],
                **{key: filled[key] for key in ("passages", "gold_at", "keys")},
            },
            prompt_tokens=filled["prompt_tokens"],
            tokenizer_fingerprint=self.fingerprint,
        )
