"""Which items of the data set are being asked, and which a resume has to ask again.

A group that passed the filter and found no place in a batch waits for the next step (`longrl.carry_steps`). Its
rollouts are in TransferQueue alone, so a checkpoint keeps the item that its prompt came from, and a resume asks it
again, before the data loader's next ones.
"""

from collections.abc import Collection, Iterator
from typing import Any

from verl_longrl.trainer.checkpoints import WAITING, CheckpointError


class ItemsAsked:
    """item_of: prompt id -> item of the data set, of prompts that were handed out. again: items still to be asked
    again."""

    def __init__(self) -> None:
        self.item_of: dict[str, int] = {}
        self.again: list[int] = []

    def handed_out(self, batch: Any) -> None:
        """Note the items of a batch of prompts, and take them out of it: the agent loops have no use for them."""
        self.item_of.update(zip(batch["uid"], batch["item"], strict=True))
        del batch["item"]

    def forget_all_but(self, prompts: Collection[str]) -> None:
        self.item_of = {uid: item for uid, item in self.item_of.items() if uid in prompts}

    def waiting(self, prompts: Collection[str]) -> list[int]:
        """Items that a start from here has to ask: of these prompts, whose groups wait, and not asked again yet."""
        return [item for uid, item in self.item_of.items() if uid in prompts] + self.again

    def ahead(self, items: list[int], dataset: Any, loader: Any) -> Iterator[dict[str, Any]]:
        """Batches: each of these items alone, then those of the data loader. Raises CheckpointError for an item that
        the data set does not have."""
        if items and max(items) >= len(dataset):
            raise CheckpointError(
                f"{WAITING} names item {max(items)} of the data, which has {len(dataset)}: the checkpoint is of other "
                "data.train_files"
            )
        self.again = list(items)
        return self._ahead(dataset, loader)

    def _ahead(self, dataset: Any, loader: Any) -> Iterator[dict[str, Any]]:
        while self.again:
            yield loader.collate_fn([dataset[self.again.pop(0)]])
        yield from loader
