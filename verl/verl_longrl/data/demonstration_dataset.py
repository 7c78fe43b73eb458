"""The data set of supervised fine-tuning, for verl's SFT trainer through `data.custom_cls`.

verl's own `MultiTurnSFTDataset` renders each message of a chat separately, which differs from what a rollout is given
where a template adds a system prompt or opens `<think>`. Here the tokens are those of a rollout with the same text
(`demonstrations.py`), and no row is truncated: the preflight has refused those that are too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import Dataset

from verl_longrl.data.demonstrations import RESPONSE, DemonstrationEncoder
from verl_longrl.data.prompt_lengths import CACHE_DIR


class DemonstrationDataset(Dataset[dict[str, Tensor]]):
    """Demonstrations of one or more parquet files, memory-mapped, encoded on access.

    Constructor as verl calls it. `config` is the run's `data` section with one more key, `end_of_turn`, the token that
    ends a response. An item has `input_ids`, `position_ids` and `loss_mask` (1 at the tokens of the response), int64 of
    shape (P + R,), and `prompts`, (P,), by which LongRL's engines know where the response begins.
    """

    def __init__(
        self,
        parquet_files: str | Sequence[str],
        tokenizer: Any,
        config: Any,
        processor: Any = None,
        max_samples: int = -1,
    ) -> None:
        files = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        template: Any = OmegaConf.to_container(OmegaConf.create(config.apply_chat_template_kwargs or {}))
        self.encoder = DemonstrationEncoder(tokenizer, config.end_of_turn, template)
        cache_dir = Path(config.get("cache_dir") or CACHE_DIR).expanduser() / "demonstrations"
        columns = ["prompt", RESPONSE]
        parts = [
            datasets.load_dataset("parquet", data_files=file, columns=columns, split="train", cache_dir=str(cache_dir))
            for file in files
        ]
        rows = datasets.concatenate_datasets(parts)
        self.rows = rows.select(range(max_samples)) if 0 < max_samples < len(rows) else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        row = self.rows[int(item)]
        prompt, response = self.encoder.encode(row["prompt"], row[RESPONSE])
        length = len(prompt) + len(response)
        return {
            "input_ids": torch.tensor(prompt + response),
            "position_ids": torch.arange(length),
            "loss_mask": (torch.arange(length) >= len(prompt)).long(),
            "prompts": torch.tensor(prompt),
        }
