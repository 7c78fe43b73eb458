"""Report what a run made, in numbers that add up: the funnel on the terminal, and the data set's card with plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from verl_longrl.data.jsonl import dumps
from verl_longrl.data.schema import read_rows

from data_gen.config import PipelineConfig
from data_gen.export_stage import SPLITS
from data_gen.pipeline import Pipeline
from data_gen.store import Store, StoreError

DROPPED = "dropped: "
FILES = ("train.parquet", "val.parquet", "README.md", "funnel.json", "config.yaml", "plots.png")
"""The files beside the stages' folders at the end of a run."""


def funnel(store: Store, stages: Sequence[str]) -> list[dict[str, Any]]:
    """One entry for each finished stage that had anything to do: `stage`, `documents` that entered, `kept`, `dropped`
    (reason -> number), `counts` (the stage's own), `spent` (seconds, requests, tokens, cost)."""
    entries = (_entry(store, stage) for stage in stages)
    return [entry for entry in entries if entry and entry["documents"]]


def _entry(store: Store, stage: str) -> dict[str, Any] | None:
    report = store.report(stage)
    if report is None:
        return None
    counts = dict(report.pop("counts"))
    dropped = {key.removeprefix(DROPPED): counts.pop(key) for key in list(counts) if key.startswith(DROPPED)}
    documents = counts.pop("documents", 0)
    return {
        "stage": stage,
        "documents": documents,
        "kept": documents - sum(dropped.values()),
        "dropped": dropped,
        "counts": counts,
        "spent": report,
    }


def stage_line(store: Store, stage: str) -> str:
    """One line about a stage that this rank has finished."""
    entry = _entry(store, stage)
    if entry is None:
        return f"{stage}: this rank has finished, others have not"
    spent = entry["spent"]
    cost = f", {spent['requests']:.0f} requests" if spent.get("requests") else ""
    cost += f", ${spent['cost']:.2f}" if spent.get("cost") else ""
    dropped = _counts(entry["dropped"])
    reasons = f" ({dropped})" if dropped else ""
    return f"{stage}: {entry['kept']} of {entry['documents']} documents{reasons}{cost}"


def require_documents(store: Store, stage: str) -> None:
    """Raises StoreError when a stage has dropped every document."""
    entry = _entry(store, stage)
    if entry is not None and not entry["kept"]:
        raise StoreError(
            f"{stage}: no document is left ({_counts(entry['dropped'])}); the rows in {store.root / stage} say why. "
            f"Fix: change the settings or the input, and rerun with --redo {stage}"
        )


def funnel_table(store: Store, stages: Sequence[str]) -> Table:
    """The funnel as a table."""
    result = Table("stage", "in", "kept", "dropped", "counts", "seconds", title=str(store.root))
    for entry in funnel(store, stages):
        numbers = (entry["documents"], entry["kept"], entry["spent"].get("seconds", 0))
        documents, kept, seconds = (f"{number:,.0f}" for number in numbers)
        result.add_row(entry["stage"], documents, kept, _counts(entry["dropped"]), _counts(entry["counts"]), seconds)
    return result


def write(store: Store, pipeline: Pipeline, config: PipelineConfig) -> None:
    """Write the card (README.md), funnel.json, config.yaml and plots.png beside the data."""
    entries = funnel(store, pipeline.stage_names)
    lengths = {split: _lengths(store, split) for split in SPLITS}
    (store.root / "funnel.json").write_text(dumps(entries, indent=1) + "\n")
    (store.root / "config.yaml").write_text(config.yaml())
    _plot(store, entries, lengths)
    rows = {split: len(values) for split, values in lengths.items()}
    tokens = lengths["train"] + lengths["val"]
    span = f"{min(tokens):,} to {max(tokens):,}, mean {sum(tokens) // len(tokens):,}" if tokens else "none"
    table_lines = [
        f"| {e['stage']} | {e['documents']:,} | {e['kept']:,} | {_counts(e['dropped'])} | {_counts(e['counts'])} |"
        for e in entries
    ]
    text = [
        f"# {pipeline.title}",
        "",
        f"{rows['train']:,} training and {rows['val']:,} validation rows, split by document; prompts of {span} tokens "
        f"(tokenizer {config.tokenizer}). Made with [config.yaml](config.yaml). {pipeline.about}",
        "",
        "| stage | documents in | kept | dropped | counts |",
        "|---|---|---|---|---|",
        *table_lines,
        "",
        "![prompt lengths and funnel](plots.png)",
        "",
    ]
    (store.root / "README.md").write_text("\n".join(text))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items() if number)


def _lengths(store: Store, split: str) -> list[int]:
    file = store.root / f"{split}.parquet"
    return [row["prompt_tokens"] for row in read_rows(file, ["prompt_tokens"])] if file.exists() else []


def _plot(store: Store, entries: list[dict[str, Any]], lengths: dict[str, list[int]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    left.hist([lengths[split] for split in SPLITS], bins=30, stacked=True, label=SPLITS)
    left.set(xlabel="prompt tokens", ylabel="rows")
    left.legend()
    names = [entry["stage"] for entry in entries][::-1]
    right.barh(names, [entry["documents"] for entry in entries][::-1], color="lightgray", label="in")
    right.barh(names, [entry["kept"] for entry in entries][::-1], label="kept")
    right.set(xlabel="documents")
    right.legend()
    figure.tight_layout()
    figure.savefig(store.root / "plots.png", dpi=110)
    pyplot.close(figure)
