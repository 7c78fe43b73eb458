"""Find the data row that a logged prompt was made of.

`rollouts/prompts.jsonl` of a run has the place, index, question and ground truth of each prompt's row
(`verl_longrl.trainer.rollout_log`). Files may have been moved since, so a row is found by its content.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from verl_longrl.data.schema import decode_extra_info, decode_ground_truth, read_rows


class Row(NamedTuple):
    """The facts about a prompt that its scorer is given, and the place of its row."""

    data_source: str
    ground_truth: Any
    extra_info: dict[str, Any]
    file: str
    number: int
    """The row's position in the file."""


def match_prompts(prompts: Iterable[dict[str, Any]], files: Sequence[str]) -> dict[str, Row]:
    """The row of each prompt in the log, by the prompt's key.

    A prompt's line has the row's index and ground truth. Where several rows have both in common, the place decides,
    then the question. Runs of earlier versions stored the text of the prompt instead, which contains the question. A
    prompt that several rows fit, or none, is left out.
    """
    candidates: dict[str, list[Row]] = defaultdict(list)
    for row in _read_files(files):
        candidates[_identify(row.extra_info["index"], row.ground_truth)].append(row)
    matched: dict[str, Row] = {}
    for prompt in prompts:
        fitting = candidates[_identify(prompt.get("index"), prompt.get("ground_truth"))]
        if len(fitting) > 1:
            place = (prompt.get("file"), prompt.get("row"))
            fitting = [row for row in fitting if (row.file, row.number) == place] or [
                row for row in fitting if _asks(row, prompt)
            ]
        if len(fitting) == 1:
            matched[prompt["prompt"]] = fitting[0]
    return matched


def _asks(row: Row, prompt: dict[str, Any]) -> bool:
    question = row.extra_info.get("question")
    return question == prompt.get("question") if "text" not in prompt else str(question or "") in prompt["text"]


def _read_files(files: Sequence[str]) -> Iterator[Row]:
    for file in files:
        for number, row in enumerate(read_rows(file, ["data_source", "reward_model", "extra_info"])):
            extra_info = {"index": number} | decode_extra_info(row["extra_info"])
            yield Row(row["data_source"], decode_ground_truth(row["reward_model"]), extra_info, str(file), number)


def _identify(index: Any, ground_truth: Any) -> str:
    return json.dumps([index, ground_truth], sort_keys=True, default=lambda value: value.tolist())
