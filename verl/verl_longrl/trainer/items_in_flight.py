"""Items of the data set whose rollouts are in flight, and those that a resume has to submit again.

A group that passed the filter and found no room in a batch waits for the next step (`longrl.carry_steps`). Its rollouts
are in TransferQueue only, so a checkpoint keeps the item that its prompt came from, and a resume submits it again,
before the data loader's next ones.
"""

from collections.abc import Collection, Iterator
from typing import Any

from verl_longrl.trainer.checkpoints import WAITING, CheckpointError


class ItemsInFlight:
    """item_of: prompt id -> item of the data set, of prompts that were submitted. to_resubmit: items that a resume
    still has to submit again."""

    def __init__(self) -> None:
        self.item_of: dict[str, int] = {}
        self.to_resubmit: list[int] = []

    def take_from(self, batch: Any) -> None:
        """Note the items of a batch of prompts, and remove them from it: the agent loops have no use for them."""
        self.item_of.update(zip(batch["uid"], batch["item"], strict=True))
        del batch["item"]

    def keep_only(self, prompts: Collection[str]) -> None:
        self.item_of = {uid: item for uid, item in self.item_of.items() if uid in prompts}

    def waiting(self, prompts: Collection[str]) -> list[int]:
        """Items that a resume from here must submit: those of `prompts`, whose groups wait, and those not yet
        resubmitted."""
        return [item for uid, item in self.item_of.items() if uid in prompts] + self.to_resubmit

    def batches_from(self, items: list[int], dataset: Any, loader: Any) -> Iterator[dict[str, Any]]:
        """Batches: each of these items alone, then those of the data loader. Raises CheckpointError for an item that
        the data set does not have."""
        if items and max(items) >= len(dataset):
            raise CheckpointError(
                f"{WAITING} names item {max(items)} of the data, which has {len(dataset)}: the checkpoint is of other "
                "data.train_files"
            )
        self.to_resubmit = list(items)
        return self._batches(dataset, loader)

    def _batches(self, dataset: Any, loader: Any) -> Iterator[dict[str, Any]]:
        # An item leaves the list before its batch is submitted, and is then in `item_of`, so a checkpoint has it once.
        while self.to_resubmit:
            # One item per batch, so that exactly the items that waited are submitted, whatever the loader's batch size.
            yield loader.collate_fn([dataset[self.to_resubmit.pop(0)]])
        yield from loader
