"""Mix sources into one training file. The choice and the order of rows depend only on the seed and the prompts.

The rows of a source are ranked by a digest of seed and prompt, and the first ones are taken. So a larger count keeps
the rows of a smaller one. The order of the mix is that of another such digest. The files are read twice, and at most a
few hundred rows are in memory: the first pass finds the usable rows; the second one writes the chosen rows to a
temporary file in the order of their files, from which they are then read in the order of the mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from verl_longrl.data.progress import progress_bar
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.rewards.registry import load_scorers
from verl_longrl.rewards.tasks.golongrl import task_name

from data_gen.config import ConfigError
from data_gen.decontaminate import Benchmarks, require_files
from data_gen.document_readers import CorpusError, row_name
from data_gen.export_stage import prompt_counter, publish_file
from data_gen.importers.layouts import Layout, read_rows
from data_gen.mix.config import MixConfig, short_names
from data_gen.mix.first_pass import Survey, Surveyor, Usable, prompt_key
from data_gen.mix.quotas import rows_per_source
from data_gen.mix.report import REPORT, MixReport
from data_gen.mix.spill import Spill
from data_gen.special_tokens import SpecialTokens
from data_gen.text import digest

TRAIN = "train.parquet"


def write_mix(config: MixConfig, output: Path) -> MixReport:
    """Write OUTPUT/train.parquet, mix.json (the report) and config.yaml.

    Raises:
        ConfigError: the folder holds other data, or a source has too few rows.
        CorpusError: a file cannot be read.
        StoreError: the tokenizer has no chat template, or the project's validator refuses the file.
    """
    _check_files(config, output)
    try:
        load_scorers(config.scorers)
    except ImportError as error:
        raise ConfigError(str(error)) from error
    counter = prompt_counter(config.tokenizer)
    clean = SpecialTokens(counter.tokenizer).break_up
    surveyor = Surveyor(counter, clean, Benchmarks(config.benchmarks), config.max_prompt_tokens)
    with progress_bar("reading", None, "rows") as advance:
        surveys = [surveyor.survey(source, advance) for source in config.sources]
    chosen = _choose(config, surveys)
    report = MixReport(surveys, [len(rows) for rows in chosen])

    output.mkdir(parents=True, exist_ok=True)
    # The file gets its name only when the validator has accepted it.
    file, unchecked = output / TRAIN, output / f"unchecked-{TRAIN}"
    # Of a process that was killed while it wrote.
    for leftover in output.glob(f".{unchecked.name}.*.tmp"):
        leftover.unlink()
    layouts = {path: layout for survey in surveys for path, layout in survey.layouts.items()}
    with Spill(output) as spill:
        # A row that was chosen several times is stored once.
        to_store = {row.key: row for row in chain.from_iterable(chosen)}
        _spill_rows(spill, to_store, layouts, clean, counter.fingerprint)
        write_samples(unchecked, report.tally(_in_order(spill, chosen, config.seed)))
    publish_file(unchecked, file, config.max_prompt_tokens)
    report.write(output)
    (output / "config.yaml").write_text(config.yaml())
    return report


def _check_files(config: MixConfig, output: Path) -> None:
    """Refuse missing, repeated and conflicting files before any file is read."""
    require_files(config.benchmarks)
    file, seen = output / TRAIN, set()
    for path in chain.from_iterable(source.paths() for source in config.sources):
        if path.resolve() in seen:
            raise ConfigError(f"{path}: given twice, so all its rows would be duplicates. Fix: name it once")
        seen.add(path.resolve())
    if file.resolve() in seen:
        raise ConfigError(f"{file}: is one of the sources and would be replaced. Fix: give another --output")
    for name in (TRAIN, "config.yaml"):
        # A file of an earlier mix may be replaced, and one of anything else may not.
        if (output / name).exists() and not (output / REPORT).exists():
            raise ConfigError(
                f"{output / name}: exists and is not of a mix (there is no {REPORT}). Fix: give another --output"
            )


def _choose(config: MixConfig, surveys: list[Survey]) -> list[list[Usable]]:
    """The chosen rows of each source. Raises ConfigError, naming every source with too few rows."""
    rows_to_take = rows_per_source(config.sources, [len(survey.usable) for survey in surveys], config.total)
    problems = [
        _too_few_rows(survey, rows)
        for survey, rows in zip(surveys, rows_to_take, strict=True)
        if not survey.usable or (rows > len(survey.usable) and not survey.source.repeat)
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return [_first_rows(survey.usable, rows, config.seed) for survey, rows in zip(surveys, rows_to_take, strict=True)]


def _too_few_rows(survey: Survey, rows: int) -> str:
    name, usable = survey.source.name, len(survey.usable)
    dropped = ", ".join(f"{reason} {number:,}" for reason, number in survey.dropped.items()) or "none dropped"
    if not usable:
        first = next(iter(survey.first.values()), "")
        return (
            f"{name}: no usable row among {survey.rows:,} ({dropped}); {first}. Fix: correct the rows, or leave it out"
        )
    return (
        f"{name}: {rows:,} rows needed, {usable:,} usable among {survey.rows:,} ({dropped}). Fix: lower the count, the "
        "weight or the total, add files, or set repeat=true"
    )


def _first_rows(usable: list[Usable], rows: int, seed: int) -> list[Usable]:
    """The first rows by rank. If more are needed than there are, all are repeated: 5 of a, b gives a, b, a, b, a."""
    ranked = sorted(usable, key=lambda row: digest(seed, "choose", row.key.hex()))
    times, rest = divmod(rows, len(ranked))
    return ranked * times + ranked[:rest]


def _spill_rows(
    spill: Spill,
    chosen: dict[bytes, Usable],
    layouts: dict[Path, Layout],
    clean: Callable[[str], str],
    fingerprint: str,
) -> None:
    """Second pass: store the chosen rows, in the order of their files and complete except for their index."""
    file_names = short_names(list(layouts))
    # File -> number of the row -> its place, so that each file is read once, forward.
    by_file: dict[Path, dict[int, Usable]] = {}
    for usable in chosen.values():
        by_file.setdefault(usable.file, {})[usable.number] = usable
    with progress_bar("gathering", len(chosen), "rows") as advance:
        for file, rows in by_file.items():
            for row in read_rows(file, layouts[file], clean, rows):
                usable = rows[row.number]
                # The digest of the first pass tells whether the file is still the same.
                if not isinstance(row.result, Sample) or prompt_key(row.result) != usable.key:
                    raise CorpusError(f"{row.where}: changed while the mix was made. Fix: rerun")
                counted = replace(row.result, prompt_tokens=usable.tokens, tokenizer_fingerprint=fingerprint)
                spill.add(usable.key, _with_origin(counted, file_names[file], row_name(file, row.number)))
                advance()
    # A file may have become shorter since the first pass.
    if lost := next((usable for usable in chosen.values() if usable.key not in spill), None):
        raise CorpusError(f"{lost.file}: lost rows while the mix was made. Fix: rerun")


def _with_origin(sample: Sample, source: str, row: str) -> Sample:
    """The sample with its origin in the payload. `source`: the file; `origin`: the origin that the sample's own payload
    names, or the row of the file."""
    origin = sample.payload.get("origin") or sample.payload.get("source") or f"{source}: {row}"
    payload = {**sample.payload, "source": source, "origin": origin}
    task = task_name(sample.data_source, {**sample.payload, "task": sample.task})
    return replace(sample, split="train", task=task, payload=payload)


def _in_order(spill: Spill, chosen: list[list[Usable]], seed: int) -> Iterator[Sample]:
    # Copies of a row get different digests, so that they are spread over the mix.
    copies: dict[bytes, int] = {}
    order: list[tuple[bytes, bytes]] = []
    for row in chain.from_iterable(chosen):
        copies[row.key] = copy = copies.get(row.key, 0) + 1
        order.append((digest(seed, "order", row.key.hex(), copy), row.key))
    for index, (_, key) in enumerate(sorted(order)):
        yield replace(spill.get(key), index=index)
