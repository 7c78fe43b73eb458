"""Sources become one training file: what is chosen, and in which order, depends on the seed and the prompts alone.

Rows are ranked by a digest of seed and prompt. A source gives its first ones by that rank, so asking for more keeps
those there are; the mix is in the order of another such digest. The files are read twice, and never more than a few
hundred rows of them are in memory: `survey` learns which rows can be used, then the chosen ones are written aside as
they come, and read from there in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from verl_longrl.data.progress import progress_bar
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.rewards.registry import load_scorers
from verl_longrl.rewards.tasks.golongrl import task_name

from data_gen.config import ConfigError
from data_gen.decontaminate import Benchmarks, require
from data_gen.document_readers import CorpusError, place
from data_gen.export_stage import hand_out, prompt_counter
from data_gen.importers.layouts import Layout, read_rows
from data_gen.mix.config import MixConfig, names
from data_gen.mix.first_pass import Survey, Surveyor, Usable, prompt_key
from data_gen.mix.quotas import rows_of
from data_gen.mix.report import REPORT, Report
from data_gen.mix.spill import Spill
from data_gen.special_tokens import SpecialTokens
from data_gen.text import digest

TRAIN = "train.parquet"


def mix(config: MixConfig, output: Path) -> Report:
    """Write OUTPUT/train.parquet, mix.json (the report) and config.yaml.

    Raises:
        ConfigError: the folder holds other data, or a source has too few rows. CorpusError: a file cannot be read.
        StoreError: the tokenizer has no chat template, or the project's validator refuses the file.
    """
    _check(config, output)
    try:
        load_scorers(config.scorers)
    except ImportError as error:
        raise ConfigError(str(error)) from error
    counter = prompt_counter(config.tokenizer)
    spell = SpecialTokens(counter.tokenizer).break_up
    surveyor = Surveyor(counter, spell, Benchmarks(config.benchmarks), config.max_prompt_tokens)
    with progress_bar("reading", None, "rows") as advance:
        surveys = [surveyor.look(source, advance) for source in config.sources]
    chosen = _choose(config, surveys)
    report = Report(surveys, [len(rows) for rows in chosen])

    output.mkdir(parents=True, exist_ok=True)
    file, unchecked = output / TRAIN, output / f"unchecked-{TRAIN}"
    for leftover in output.glob(f".{unchecked.name}.*.tmp"):  # of a process that was killed here
        leftover.unlink()
    layouts = {path: layout for survey in surveys for path, layout in survey.layouts.items()}
    with Spill(output) as spill:
        _gather(spill, {row.key: row for rows in chosen for row in rows}, layouts, spell, counter.fingerprint)
        write_samples(unchecked, report.tally(_in_order(spill, chosen, config.seed)))
    hand_out(unchecked, file, config.max_prompt_tokens)
    report.write(output)
    (output / "config.yaml").write_text(config.yaml())
    return report


def _check(config: MixConfig, output: Path) -> None:
    """Refuse now what is wrong with the files named, before any is read."""
    require(config.benchmarks)
    file, seen = output / TRAIN, set()
    for path in (path for source in config.sources for path in source.paths()):
        if path.resolve() in seen:
            raise ConfigError(f"{path}: given twice, so all its rows would be duplicates; name it once")
        seen.add(path.resolve())
    if file.resolve() in seen:
        raise ConfigError(f"{file} is one of the sources and would be replaced; give another --output")
    for name in (TRAIN, "config.yaml"):
        if (output / name).exists() and not (output / REPORT).exists():
            raise ConfigError(f"{output / name} is there and is no mix (no {REPORT} beside it); give another --output")


def _choose(config: MixConfig, surveys: list[Survey]) -> list[list[Usable]]:
    """The rows that each source gives. Raises ConfigError, naming every source with too few."""
    asked = rows_of(config.sources, [len(survey.usable) for survey in surveys], config.total)
    short = [
        _too_few(survey, rows)
        for survey, rows in zip(surveys, asked, strict=True)
        if not survey.usable or (rows > len(survey.usable) and not survey.source.repeat)
    ]
    if short:
        raise ConfigError("\n".join(short))
    return [_first(survey.usable, rows, config.seed) for survey, rows in zip(surveys, asked, strict=True)]


def _too_few(survey: Survey, asked: int) -> str:
    name, usable = survey.source.name, len(survey.usable)
    dropped = ", ".join(f"{reason} {number:,}" for reason, number in survey.dropped.items()) or "none dropped"
    if not usable:
        first = next(iter(survey.first.values()), "")
        return f"{name}: no usable row among {survey.rows:,} ({dropped}); {first}; put that right, or leave it out"
    return (
        f"{name}: {asked:,} rows wanted, {usable:,} usable among {survey.rows:,} ({dropped}); lower the count, the "
        "weight or the total, add files, or set repeat=true"
    )


def _first(usable: list[Usable], rows: int, seed: int) -> list[Usable]:
    """The first rows by rank, all of them several times when more are wanted."""
    ranked = sorted(usable, key=lambda row: digest(seed, "choose", row.key.hex()))
    times, rest = divmod(rows, len(ranked))
    return ranked * times + ranked[:rest]


def _gather(
    spill: Spill,
    chosen: dict[bytes, Usable],
    layouts: dict[Path, Layout],
    spell: Callable[[str], str],
    fingerprint: str,
) -> None:
    """Second pass: the chosen rows, whatever their order, as they will be written but for their index."""
    shown = names(list(layouts))
    by_file: dict[Path, dict[int, Usable]] = {}
    for usable in chosen.values():
        by_file.setdefault(usable.file, {})[usable.number] = usable
    with progress_bar("gathering", len(chosen), "rows") as advance:
        for file, rows in by_file.items():
            for row in read_rows(file, layouts[file], spell, rows):
                usable = rows[row.number]
                if not isinstance(row.result, Sample) or prompt_key(row.result) != usable.key:
                    raise CorpusError(f"{row.where}: changed while the mix was made; run again")
                counted = replace(row.result, prompt_tokens=usable.tokens, tokenizer_fingerprint=fingerprint)
                spill.add(usable.key, _labelled(counted, shown[file], place(file, row.number)))
                advance()
    if lost := next((usable for usable in chosen.values() if usable.key not in spill), None):
        raise CorpusError(f"{lost.file}: lost rows while the mix was made; run again")


def _labelled(sample: Sample, source: str, row: str) -> Sample:
    """With where it comes from: `source` is the file; `origin` what its own payload says of that, or else the row."""
    origin = sample.payload.get("origin") or sample.payload.get("source") or f"{source}: {row}"
    payload = {**sample.payload, "source": source, "origin": origin}
    task = task_name(sample.data_source, {**sample.payload, "task": sample.task})
    return replace(sample, split="train", task=task, payload=payload)


def _in_order(spill: Spill, chosen: list[list[Usable]], seed: int) -> Iterator[Sample]:
    copies: dict[bytes, int] = {}
    order: list[tuple[bytes, bytes]] = []
    for row in (row for rows in chosen for row in rows):
        copies[row.key] = copy = copies.get(row.key, 0) + 1
        order.append((digest(seed, "order", row.key.hex(), copy), row.key))
    for index, (_, key) in enumerate(sorted(order)):
        yield replace(spill.get(key), index=index)
