"""Command line: python -m data_gen.demonstrations from-gold|from-rollouts|check."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer
from verl_longrl.data.demonstrations import Demonstration, check_demonstrations, write_demonstrations
from verl_longrl.data.schema import Sample, read_samples
from verl_longrl.rewards import RewardOptions, load_scorers

from data_gen.cli import exit_on_user_error
from data_gen.demonstrations.gold import GoldOptions, GoldWriter, Style
from data_gen.demonstrations.rollouts import (
    Chosen,
    Order,
    RejectionOptions,
    SourceError,
    choose,
    read_responses,
    stored_rewards,
)
from data_gen.tokenizer import BUILTIN, load_tokenizer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
STOPPED = "stopped; nothing was written"
Out = Annotated[Path, typer.Option(help="Parquet file to write.")]
Seed = Annotated[int, typer.Option(help="Seed of every choice.")]
Scorers = Annotated[list[str] | None, typer.Option(help="Module or file with your own scorers; may be repeated.")]


@app.command("from-gold")
def from_gold(
    files: Annotated[list[Path], typer.Argument(metavar="TRAIN.parquet...", help="Grounded rows (longrlvr).")],
    out: Out,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows to draw at random; default: all, in order.")] = None,
    quote_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the evidence chunks to quote and cite, at least one of a row.")
    ] = 1.0,
    style: Annotated[
        Style, typer.Option(help="to-tag: quote to the end of the chunk, if it fits; sentence: only the evidence.")
    ] = "to-tag",
    max_quote_tokens: Annotated[int, typer.Option(min=1, help="Longest quote of one chunk, in tokens.")] = 96,
    tokenizer: Annotated[str, typer.Option(help="Tokenizer that counts them: folder, hub name or builtin.")] = BUILTIN,
    open_think: Annotated[
        bool, typer.Option("--open-think", help="Begin with <think>, for chat templates that do not write it.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Write demonstrations that quote the gold evidence, cite its chunks and give the gold answer; needs no model."""
    with exit_on_user_error(STOPPED):
        options = GoldOptions(style, quote_share, max_quote_tokens, open_think, seed)
        writer = GoldWriter(options, load_tokenizer(tokenizer), RewardOptions())
        write_demonstrations(out, writer.write(_draw(files, limit, seed)))
        made = writer.made
        incomplete = f", {made.incomplete} of them with a part of the evidence" if made.incomplete else ""
        print(f"{out}: {made.written} demonstrations{incomplete}")
        for reason, count in made.skipped.most_common():
            print(f"  {count} rows skipped: {reason}")
        if made.incomplete:
            print(f"  to train on these: sft.max_imperfect={made.incomplete}")


def _draw(files: list[Path], limit: int | None, seed: int) -> Iterator[Sample]:
    """The rows of files, or a random choice of them, in order."""
    total = sum(pq.read_metadata(file).num_rows for file in files)
    chosen = set(random.Random(seed).sample(range(total), min(total, limit or total)))
    samples = itertools.chain.from_iterable(map(read_samples, files))
    return (sample for number, sample in enumerate(samples) if number in chosen)


@app.command("from-rollouts")
def from_rollouts(
    sources: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, mining or evaluations.")],
    out: Out,
    threshold: Annotated[float, typer.Option(help="Least reward; for longrlvr, 2 is full marks.")],
    rows: Annotated[list[str] | None, typer.Option(help="Data file that was answered; default: the run's.")] = None,
    per_prompt: Annotated[int, typer.Option(min=1, help="Most demonstrations of one prompt.")] = 1,
    order: Annotated[Order, typer.Option(help="Which of a prompt's good responses are kept.")] = "shortest",
    scorers: Scorers = None,
    seed: Seed = 0,
) -> None:
    """Choose responses of a model whose reward reaches a threshold (rejection sampling); needs nothing but files."""
    with exit_on_user_error(STOPPED):
        options = RejectionOptions(threshold, per_prompt, order, seed)
        rewards = _rewards(stored_rewards(sources[0]), scorers)
        counts = Chosen()
        responses = (pair for source in sources for pair in read_responses(source, rows or []))
        found: list[Demonstration] = list(choose(responses, options, rewards, counts))
        if not found:
            dropped = "; ".join(f"{count} {reason}" for reason, count in counts.dropped.items() if count)
            raise SourceError(
                f"threshold = {threshold:g}: none of {counts.read} responses is kept ({dropped or 'there are none'}). "
                "Fix: lower it, or name other folders"
            )
        write_demonstrations(out, found)
        print(f"{out}: {counts.kept} demonstrations of {counts.prompts} prompts, from {counts.read} responses")
        for reason, count in counts.dropped.most_common():
            if count:
                print(f"  {count} dropped: {reason}")


@app.command("check")
def check(
    files: Annotated[list[Path], typer.Argument(metavar="DEMOS.parquet...", help="Files of demonstrations.")],
    max_imperfect: Annotated[int, typer.Option(min=0, help="Demonstrations that may have less than full marks.")] = 0,
    max_errors: Annotated[int, typer.Option(min=0, help="Problem lines per file; 0 shows all.")] = 20,
    scorers: Scorers = None,
) -> None:
    """Check that every demonstration is valid and has full marks: answer, context and format 1."""
    failed = False
    with exit_on_user_error(STOPPED):
        rewards = _rewards({}, scorers)
        for file in files:
            report = check_demonstrations(file, rewards, max_imperfect=max_imperfect, max_errors=max_errors)
            for line in report.warnings:
                typer.echo(f"warning: {line}", err=True)
            for line in report.lines():
                typer.echo(line)
            failed |= not report.ok
    raise typer.Exit(1 if failed else 0)


def _rewards(stored: dict[str, Any], scorers: list[str] | None) -> RewardOptions:
    """A run's reward options without a judge, and with the user's scorers loaded."""
    options = RewardOptions.from_dict(stored, "longrl.reward.")
    answer = dataclasses.replace(options.answer, by="rule")
    options = dataclasses.replace(options, answer=answer, scorers=(*options.scorers, *(scorers or ())))
    load_scorers(options.scorers)
    return options


if __name__ == "__main__":
    app()
