"""The last step of every pipeline: samples become the project's parquet, checked before anybody can train on them."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards.options import Options, number

from data_gen.pipeline import WholeStage
from data_gen.progress import Advance
from data_gen.store import Document, Row, Store, StoreError
from data_gen.text import digest
from data_gen.tokenizer import load_tokenizer

SPLITS = ("train", "val")


def prompt_counter(tokenizer: str, chat_template_kwargs: Mapping[str, object] | None = None) -> PromptCounter:
    """What counts prompts as training sees them. Raises StoreError for a tokenizer without a chat template."""
    loaded = load_tokenizer(tokenizer)
    if not loaded.chat_template:
        raise StoreError(
            f"tokenizer {tokenizer} has no chat template, so prompt lengths cannot be counted as training sees them; "
            "use the tokenizer of the model that will be trained (tokenizer=PATH) from the first stage on"
        )
    return PromptCounter(loaded, chat_template_kwargs)


def held_out(names: Iterable[str], fraction: float, seed: int) -> set[str]:
    """Documents for validation: a seeded choice that depends on their ids alone; neither side is left empty."""
    ordered = sorted(names, key=lambda name: digest(seed, "split", name))
    count = round(len(ordered) * fraction)
    if fraction:
        count = min(max(count, 1), len(ordered) - 1)
    return set(ordered[: max(count, 0)])


def hand_out(unchecked: Path, file: Path, max_tokens: int | None) -> None:
    """Give a written file its name, once the project's own validator accepts it. Raises StoreError when it does not."""
    report = validate_file(unchecked, max_prompt_length=max_tokens)
    if not report.ok:
        raise StoreError("\n".join(["the exported file fails the project's own validator:", *report.lines()]))
    unchecked.replace(file)


@dataclass(frozen=True)
class SplitOptions(Options):
    """val_fraction: share of documents held out, at least one when it is above 0; where there are rows of several
    origins, that share of each."""

    val_fraction: float = 0.02

    def __post_init__(self) -> None:
        number("export.val_fraction", self.val_fraction, 0, 0.9)


class ExportStage(WholeStage):
    """Stage export of any pipeline: writes train.parquet and val.parquet beside the stages.

    First every document's row is decided, then the files are rendered from these decisions, checked by the project's
    validator, and put in their place; any number of documents takes the memory of one part. A document's samples are
    all on one side.

    `origins`: for each kind of document that becomes samples, the stages whose rows it has; the last decides which
    enter. Row: `rows`, how many samples the document gives, and what a pipeline adds.
    """

    name = "export"
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
        return {"seed": self.seed, "tokenizer": self.tokenizer, **self.named(self.options)}

    def check(self) -> None:
        prompt_counter(self.tokenizer, self.chat_template_kwargs)

    def parts(self, store: Store) -> list[str]:
        return [part for stages in self._origins(store) for part in store.parts(stages[-1])]

    def decide(self, name: str, document: Document) -> Row:
        """The row of the document of this name, or its drop."""
        return {"id": name, "rows": 1}

    @abstractmethod
    def samples(self, document: Document) -> Iterator[Sample]:
        """The samples of a document, whose own row here is among its rows; they are numbered afterwards."""

    def make(self, store: Store, advance: Advance) -> Counter[str]:
        self.counter = prompt_counter(self.tokenizer, self.chat_template_kwargs)
        counts: Counter[str] = Counter()
        val: set[str] = set()
        for stages in self._origins(store):
            rows_of: dict[str, int] = {}
            for part in store.parts(stages[-1]):
                documents = store.documents(part, stages)
                counts += store.write(self.name, part, (self.decide(d[stages[-1]]["id"], d) for d in documents))
                rows_of |= {row["id"]: row["rows"] for row in store.read(self.name, part) if "drop" not in row}
                advance()
            held = held_out(rows_of, self.options.val_fraction, self.seed)
            val |= held
            counts["val rows"] += sum(rows_of[name] for name in held)
            counts["train rows"] += sum(rows_of.values()) - sum(rows_of[name] for name in held)
        self._publish(store, {split: counts[f"{split} rows"] for split in SPLITS}, val)
        return counts

    def _origins(self, store: Store) -> list[list[str]]:
        """The origins without stages that were not wanted."""
        return [made for stages in self.origins if (made := store.made(stages))]

    def _publish(self, store: Store, rows: Mapping[str, int], val: set[str]) -> None:
        """Write the files that have rows. Raises StoreError when the validator refuses one, which then is not handed
        out."""
        aside = store.root / self.name
        for leftover in aside.glob(".*.tmp"):  # of a process that was killed here
            leftover.unlink()
        for split in SPLITS:
            file, unchecked = store.root / f"{split}.parquet", aside / f"{split}.parquet"
            file.unlink(missing_ok=True)
            if rows[split]:
                write_samples(unchecked, self._split(store, val, split))
                hand_out(unchecked, file, self.max_tokens)

    def _split(self, store: Store, val: set[str], split: str) -> Iterator[Sample]:
        samples = (
            sample
            for stages in self._origins(store)
            for part in store.parts(stages[-1])
            for document in store.documents(part, (*stages, self.name))
            if (document[self.name]["id"] in val) == (split == "val")
            for sample in self.samples(document)
        )
        for index, sample in enumerate(samples):
            yield replace(sample, index=index, split=split, tokenizer_fingerprint=self.counter.fingerprint)
