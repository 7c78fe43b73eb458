"""The training data set: every row is validated and complete, and no row is dropped silently.

For verl through `data.custom_cls` (path "pkg://verl_longrl.data.dataset", name "LongRLDataset"). verl's `RLHFDataset`
hides rows that it cannot tokenize (any exception counts as "too long") and leaves overlong prompts to the agent loop,
which cuts off their first chunks. Here:

- each file is validated first, and an invalid one stops the start with the lines of the validator;
- a prompt over `data.max_prompt_length` stops the start; with `data.filter_overlong_prompts` its row is dropped, and
  the number of dropped rows is printed. Lengths come from the file (`prompt_lengths.py`): nothing is tokenized twice;
- rows stay on disk (memory-mapped Arrow) and are decoded on access: ground truth and payload are Python objects when a
  scorer gets them;
- a sample contains its prompt once (as `raw_prompt`), not twice. `ref_chunks_text` is sent with every rollout because
  the judge reads it: a few KB next to a prompt of hundreds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import torch
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

from verl_longrl.data.prompt_lengths import prompt_lengths
from verl_longrl.data.schema import (
    ROW_GROUP_ROWS,
    SCHEMA,
    decode_extra_info,
    decode_ground_truth,
    read_rows,
    read_sample,
    sample_columns,
)
from verl_longrl.data.validation import validate_file
from verl_longrl.rewards import load_scorers
from verl_longrl.rewards.tasks.golongrl import task_name
from verl_longrl.special_tokens import SpecialTokenFinder

MAX_LINES = 20
"""Problem lines shown when training refuses to start."""


class DataError(ValueError):
    """The data cannot be used for training as it is; the message has the rows and the fix."""


class LongRLDataset(RLHFDataset):
    """Samples of one or more parquet files, ours or released, as verl's trainer wants them.

    Constructor as `RLHFDataset`: (data_files, tokenizer, config, processor=None, max_samples=-1). In addition to verl's
    keys of `data`, the optional `data.scorers` lists modules or files with the user's own scorers, so that their
    `data_source` is known. An item has `raw_prompt` (chat messages), `data_source`, `ability`, `reward_model`
    {style, ground_truth}, `extra_info` (payload merged in, nulls left out; `data_file` and `data_row` say where the row
    is), `index` (int; the number of the row in its file if the row has no index), `item` (int; its position in this
    data set), and the fields that verl's agent loop expects (`dummy_tensor`, `tools_kwargs`, `interaction_kwargs`).

    Attributes:
        prompt_lengths: tokens of each prompt, int32 of shape (len(self),), in item order.
        row_numbers, file_numbers: each item's row number in its file, and that file's number, likewise.

    Raises:
        DataError: a file fails validation, a prompt is too long and may not be dropped, or no row remains.
        ImportError: a module or file of `data.scorers` cannot be imported.
    """

    prompt_lengths: np.ndarray
    row_numbers: np.ndarray
    file_numbers: np.ndarray

    def _read_files_and_tokenize(self) -> None:
        self.scorers = tuple(self.config.get("scorers") or ())
        load_scorers(self.scorers)
        template: Any = OmegaConf.create(self.apply_chat_template_kwargs or {})
        kwargs: Any = OmegaConf.to_container(template, resolve=True)
        if self.tool_schemas is not None:
            kwargs["tools"] = self.tool_schemas
        for path in self.data_files:
            self._refuse_bad_file(path)
        lengths = [
            prompt_lengths(
                path,
                self.tokenizer,
                chat_template_kwargs=kwargs,
                cache_dir=self.cache_dir,
                prompt_key=self.prompt_key,
            )
            for path in self.data_files
        ]
        frame = datasets.concatenate_datasets(
            [load_file(path, cache_dir=self.cache_dir, prompt_key=self.prompt_key) for path in self.data_files]
        )
        keep = self._fitting(lengths)
        if 0 < self.max_samples < len(keep):
            if self.shuffle:
                keep = np.random.default_rng(self.seed).choice(keep, size=self.max_samples, replace=False)
            else:
                keep = keep[: self.max_samples]
        self.prompt_lengths = np.concatenate(lengths)[keep]
        self.row_numbers = np.concatenate([np.arange(len(counts)) for counts in lengths])[keep]
        self.file_numbers = np.repeat(np.arange(len(lengths)), [len(counts) for counts in lengths])[keep]
        self.dataframe = frame.select(keep)
        print(
            f"data: {len(keep)} of {len(frame)} samples from {len(self.data_files)} file(s), "
            f"prompts of up to {self.prompt_lengths.max()} tokens",
            flush=True,
        )

    def _refuse_bad_file(self, path: str) -> None:
        report = validate_file(
            path,
            max_errors=MAX_LINES,
            prompt_key=self.prompt_key,
            special_tokens=SpecialTokenFinder.of_tokenizer(self.tokenizer),
        )
        for line in report.warnings:
            print(f"warning: {line}", flush=True)
        if not report.ok:
            scorers = "".join(f" --scorers {source}" for source in self.scorers)
            raise DataError(
                "\n".join(
                    [
                        f"{path}: {report.problem_count} problems; training does not start with invalid data",
                        *report.problems,
                        f"Show all: python -m verl_longrl.data.validate --max-errors 0{scorers} {path}",
                    ]
                )
            )

    def _fitting(self, lengths: list[np.ndarray]) -> np.ndarray:
        """Positions, in the concatenated files, of the rows whose prompt fits."""
        limit, filtering = self.max_prompt_length, self.filter_overlong_prompts
        reports = []
        for path, counts in zip(self.data_files, lengths, strict=True):
            over = np.flatnonzero(counts > limit)
            if len(over):
                rows = ", ".join(map(str, over[:5])) + (", ..." if len(over) > 5 else "")
                reports.append(
                    f"{path}: {len(over)} of {len(counts)} prompts are longer than "
                    f"data.max_prompt_length={limit} tokens (longest {counts.max()}; rows {rows})"
                )
        if reports and not filtering:
            raise DataError(
                "\n".join(reports)
                + "\nA prompt is never truncated. Fix: raise data.max_prompt_length (and the rollout's context "
                "length), build the data with shorter documents, or set data.filter_overlong_prompts=True to drop "
                "these rows."
            )
        for line in reports:
            print(f"dropped: {line}", flush=True)
        keep = np.flatnonzero(np.concatenate(lengths) <= limit)
        if not len(keep):
            raise DataError(
                f"data.max_prompt_length = {limit}: no prompt fits. Fix: raise it, or build shorter documents"
            )
        return keep

    def tasks(self) -> list[str]:
        """The task of every item, as metrics name it."""
        rows = self.dataframe.select_columns(["data_source", "extra_info"])
        return [task_name(row["data_source"], decode_extra_info(row["extra_info"])) for row in rows]

    def __getitem__(self, item: int) -> dict[str, Any]:
        row, number = self.dataframe[int(item)], int(self.row_numbers[int(item)])
        place = {"data_file": self.original_data_files[int(self.file_numbers[int(item)])], "data_row": number}
        extra_info = {"index": number} | decode_extra_info(row["extra_info"]) | place
        return {
            "raw_prompt": row["prompt"],
            "data_source": row["data_source"],
            "ability": row["ability"] or "",
            "reward_model": {
                "style": row["reward_model"]["style"],
                "ground_truth": decode_ground_truth(row["reward_model"]),
            },
            "extra_info": extra_info,
            "index": extra_info["index"],
            "item": int(item),
            "tools_kwargs": extra_info.get("tools_kwargs", {}),
            "interaction_kwargs": extra_info.get("interaction_kwargs", {}),
            # verl requires at least one tensor in a batch.
            "dummy_tensor": torch.tensor([0], dtype=torch.uint8),
        }

    def __getstate__(self) -> dict[str, Any]:
        """The whole state: memory-mapped rows are pickled as paths, so a spawned loader worker does not read them
        again.
        """
        return self.__dict__.copy()


def load_file(path: str, *, cache_dir: str | Path, prompt_key: str = "prompt") -> datasets.Dataset:
    """Rows of one parquet file in `SCHEMA`, memory-mapped.

    A file in another schema (released data sets) is converted once and cached by the file's path, size and
    modification time, so that files of any origin concatenate.
    """
    cache_dir = str(Path(cache_dir).expanduser() / "rows")
    features = datasets.Features.from_arrow_schema(SCHEMA)
    if prompt_key == "prompt" and pq.read_schema(path).remove_metadata().equals(SCHEMA):
        return datasets.load_dataset(
            "parquet",
            data_files=path,
            features=features,
            batch_size=ROW_GROUP_ROWS,
            cache_dir=cache_dir,
            split="train",
        )
    stat = Path(path).stat()
    return datasets.Dataset.from_generator(
        _canonical_rows,
        features=features,
        cache_dir=cache_dir,
        gen_kwargs={
            "path": path,
            "prompt_key": prompt_key,
            "version": (stat.st_size, stat.st_mtime_ns, str(SCHEMA)),
        },
    )


def _canonical_rows(path: str, prompt_key: str, version: tuple[int, int, str]):
    # `version` is an argument only to be a part of the cache key.
    del version
    for number, row in enumerate(read_rows(path, sample_columns(path, prompt_key))):
        yield read_sample(row, number, prompt_key).to_row()
