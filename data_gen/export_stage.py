"""The last stage of every pipeline: samples become the project's parquet, which is validated before it is published."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le
from pydantic.dataclasses import dataclass
from verl_longrl.data.progress import Advance
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.options import Options

from data_gen.pipeline import WholeStage
from data_gen.store import Document, Row, Store, StoreError
from data_gen.text import digest
from data_gen.tokenizer import load_tokenizer

SPLITS = ("train", "val")


def prompt_counter(tokenizer: str, chat_template_kwargs: Mapping[str, object] | None = None) -> PromptCounter:
    """A counter of prompt tokens as training sees them. Raises StoreError for a tokenizer without a chat template."""
    loaded = load_tokenizer(tokenizer)
    if not loaded.chat_template:
        raise StoreError(
            f"tokenizer {tokenizer} has no chat template, so prompts cannot be counted as training sees them. Fix: "
            "rerun from the first stage with the tokenizer of the model to be trained (tokenizer=PATH)"
        )
    return PromptCounter(loaded, chat_template_kwargs)


def choose_held_out(names: Iterable[str], fraction: float, seed: int) -> set[str]:
    """Documents to hold out for validation: a seeded choice that depends only on their ids. With a fraction above 0 and
    two documents or more, both splits have some."""
    ordered = sorted(names, key=lambda name: digest(seed, "split", name))
    count = round(len(ordered) * fraction)
    if fraction:
        count = min(max(count, 1), len(ordered) - 1)
    return set(ordered[: max(count, 0)])


def publish_file(unchecked: Path, file: Path, max_tokens: int | None) -> None:
    """Move a written file to its final name if the project's validator accepts it. Raises StoreError if not."""
    report = validate_file(unchecked, max_prompt_length=max_tokens)
    if not report.ok:
        raise StoreError("\n".join(["the exported file fails the project's validator:", *report.lines()]))
    unchecked.replace(file)


@dataclass(frozen=True)
class SplitOptions(Options):
    """Options of the export."""

    val_fraction: Annotated[float, Ge(0), Le(0.9)] = 0.02
    """Share of the documents held out for validation, at least one if it is above 0. With rows of several origins (as
    in KeyChain), this share of each."""


class ExportStage(WholeStage):
    """Stage export of any pipeline: writes train.parquet and val.parquet beside the stages' folders.

    First the row of every document is decided. Then the files are rendered from these decisions, checked by the
    project's validator, and published. Only one part is in memory at a time. All samples of a document are in the same
    split.

    `origins`: for each kind of document that becomes samples, the stages whose rows it has; the last one decides which
    documents enter. Row: `rows`, the number of samples of the document, and what a pipeline adds.
    """

    name = "export"
    summary = "write training parquet, split by document."
    blocks: ClassVar = {"export": SplitOptions}
    origins: ClassVar[tuple[tuple[str, ...], ...]]

    def __init__(
        self,
        options: SplitOptions,
        tokenizer: str,
        max_tokens: int,
        seed: int,
        chat_template_kwargs: Mapping[str, object] | None = None,
    ):
        self.options, self.tokenizer, self.max_tokens, self.seed = options, tokenizer, max_tokens, seed
        self.chat_template_kwargs = chat_template_kwargs

    def settings(self) -> dict[str, Any]:
        return {"seed": self.seed, "tokenizer": self.tokenizer, **self.block_settings(self.options)}

    def check_before_run(self) -> None:
        prompt_counter(self.tokenizer, self.chat_template_kwargs)

    def parts(self, store: Store) -> list[str]:
        return [part for stages in self._origins(store) for part in store.parts(stages[-1])]

    def decide(self, name: str, document: Document) -> Row:
        """The row of this document, which says how many samples it gives or why it is dropped."""
        return {"id": name, "rows": 1}

    def hold_out(self, rows: Mapping[str, Row]) -> set[str]:
        """The documents to hold out for validation. rows: those of `decide`, by document."""
        return choose_held_out(rows, self.options.val_fraction, self.seed)

    def check_file(self, unchecked: Path) -> None:
        """Raise ValueError if a written file does not keep what the pipeline promises; it is not published then."""

    @abstractmethod
    def samples(self, document: Document) -> Iterator[Sample]:
        """The samples of a document; the row that `decide` returned is among its rows. They are numbered later."""

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        self.counter = prompt_counter(self.tokenizer, self.chat_template_kwargs)
        counts: Counter[str] = Counter()
        val: set[str] = set()
        for stages in self._origins(store):
            decided: dict[str, Row] = {}
            for part in store.parts(stages[-1]):
                documents = store.documents(part, stages)
                counts += store.write(self.name, part, (self.decide(d[stages[-1]]["id"], d) for d in documents))
                decided |= {row["id"]: row for row in store.read(self.name, part) if "drop" not in row}
                advance()
            held_out = self.hold_out(decided)
            val |= held_out
            held_out_rows = sum(decided[name]["rows"] for name in held_out)
            counts["val rows"] += held_out_rows
            counts["train rows"] += sum(row["rows"] for row in decided.values()) - held_out_rows
        self._write_files(store, {split: counts[f"{split} rows"] for split in SPLITS}, val)
        return counts

    def _origins(self, store: Store) -> list[list[str]]:
        """The origins, without stages that were skipped."""
        origins = [store.without_skipped(stages) for stages in self.origins]
        return [stages for stages in origins if stages]

    def _write_files(self, store: Store, rows: Mapping[str, int], val: set[str]) -> None:
        """Write the files that have rows. Raises StoreError, and does not publish a file, if the validator refuses
        it."""
        folder = store.root / self.name
        for leftover in folder.glob(".*.tmp"):
            # of a process that was killed while it wrote
            leftover.unlink()
        for split in SPLITS:
            file, unchecked = store.root / f"{split}.parquet", folder / f"{split}.parquet"
            file.unlink(missing_ok=True)
            if rows[split]:
                write_samples(unchecked, self._samples_of_split(store, val, split))
                self.check_file(unchecked)
                publish_file(unchecked, file, self.max_tokens)

    def _samples_of_split(self, store: Store, val: set[str], split: str) -> Iterator[Sample]:
        index = 0
        for stages in self._origins(store):
            for part in store.parts(stages[-1]):
                for document in store.documents(part, (*stages, self.name)):
                    if (document[self.name]["id"] in val) != (split == "val"):
                        continue
                    for sample in self.samples(document):
                        yield replace(sample, index=index, split=split, tokenizer_fingerprint=self.counter.fingerprint)
                        index += 1
