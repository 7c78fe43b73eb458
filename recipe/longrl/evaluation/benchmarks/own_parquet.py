"""Rows of this project's own parquet files, such as held-out KeyChain or GoLongRL data, scored as in training."""

from __future__ import annotations

from collections.abc import Iterator

from verl_longrl.data.row_checks import check_row
from verl_longrl.data.schema import Sample, decode_extra_info
from verl_longrl.rewards import RewardOptions, score
from verl_longrl.rewards.tasks.longrlvr import grounded_reward

from recipe.longrl.evaluation.benchmarks.local_files import DataError, cluster_of, find_files, read_rows, without_chunks
from recipe.longrl.evaluation.records import Outcome, Row

MAX_TOKENS = 4096
_TRAINING = RewardOptions()
_PUBLISHED = RewardOptions(paper_exact=True)


def own_parquet_rows(*, path: str | None = None, max_tokens: int = MAX_TOKENS) -> Iterator[Row]:
    """Rows of a parquet file, or of all those in a folder.

    Raises:
        DataError: no file, or a row that training would refuse.
    """
    for file in find_files(path, "own_parquet", "**/*.parquet", "nothing: the files are your own"):
        for row in read_rows(file):
            if problems := check_row(row.values):
                raise DataError(f"{row.place}: {problems[0]}. Fix: see python -m verl_longrl.data.validate {file}")
            sample = Sample.from_row(row.values, row.number)
            chunks = sample.num_chunks or 0
            evidence = tuple(sample.ref_chunks or ())
            yield Row(
                id=f"{file.stem}/{row.number}",
                messages=tuple(dict(message) for message in sample.prompt),
                gold=sample.ground_truth,
                max_tokens=max_tokens,
                cell=sample.task or sample.data_source,
                cluster=cluster_of(sample.prompt[-1]["content"]),
                position=sum(evidence) / (len(evidence) * max(chunks - 1, 1)) if evidence and chunks else None,
                closed_book=without_chunks(sample.prompt),
                evidence=evidence,
                meta={
                    "data_source": sample.data_source,
                    "question": sample.question,
                    "num_chunks": sample.num_chunks,
                    "extra_info": decode_extra_info(row.values.get("extra_info")),
                },
            )


def training_reward(text: str, row: Row) -> Outcome:
    """The reward that training would give as a share of the greatest one, answers decided by rule."""
    return _outcome(text, row, _TRAINING)


def training_reward_published(text: str, row: Row) -> Outcome:
    """The same with the reward of the released code (`paper_exact`)."""
    return _outcome(text, row, _PUBLISHED)


def _outcome(text: str, row: Row, options: RewardOptions) -> Outcome:
    result = score(row.meta["data_source"], text, row.gold, row.meta["extra_info"], options=options)
    if result.failed:
        raise ValueError(f"row {row.id!r}: {row.meta['data_source']}: {result.reason}")
    # A grounded reward is 2 for a right answer with all its evidence.
    greatest = grounded_reward(1.0, 1.0, options.eta) if "context" in result.parts else 1.0
    return Outcome(result.value / greatest, result.candidate or "", dict(result.parts))
