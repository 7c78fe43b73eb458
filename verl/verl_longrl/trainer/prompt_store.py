"""TransferQueue keeps a prompt once, however many rollouts it has.

verl puts a row for each rollout, and into each the whole prompt: `prompts`, `input_ids` and `position_ids`, 24
bytes a token, and its text. Here the first row of a prompt that is put is as verl's. In the others, what is the
same as in the first one is left out: of a tensor its beginning, as long as the prompt, of anything else all of it. In
its place is a reference to the first row, and what follows.

Readers get what was put: references are resolved in the process that fetches rows, with one fetch of the first row for
all that refer to it. The trainer, its ranks, padding, and dumps of rollouts know nothing of it. A process without
LongRL's plugin would find dictionaries where it expects tensors, and fail.

No reference outlives its row, because rows of a prompt are cleared together: at the end of a step, when a group is
filtered out, has failed or is left over, and after a validation.
"""

import asyncio
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import NonTensorStack, TensorDict
from transfer_queue.metadata import BatchMeta
from transfer_queue.storage import AsyncSimpleStorageManager, StorageManagerFactory

SHARED = ("prompts", "input_ids", "position_ids", "raw_prompt", "extra_info")
"""Fields that agent loops write, that are long, and that nothing writes again."""
FIRST_ROW = "longrl_first_row"
"""Key of the tag, and of a reference: the index of the row that has the prompt."""


@dataclass
class Group:
    """Rows of one prompt: the index of the first, once it is stored, and digests of what others may share with it."""

    first_row: int | None = None
    digests: dict[str, bytes] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class PromptStore(AsyncSimpleStorageManager):
    """verl's client of its SimpleStorage. What is put within `group(uid)`, one row at a time, shares the prompt."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._groups: dict[str, Group] = {}

    @contextmanager
    def group(self, uid: str) -> Iterator[None]:
        """While the rollouts of a prompt run, all in this process and its one event loop, as verl has it."""
        self._groups[uid] = Group()
        try:
            yield
        finally:
            del self._groups[uid]

    async def put_data(
        self, data: TensorDict, metadata: BatchMeta, data_parser: Callable[[Any], Any] | None = None
    ) -> None:
        row = _row(data) if metadata.size == 1 and data_parser is None else {}
        group = self._groups.get(row.pop("uid", ""))
        if group is None or not isinstance(row.get("prompts"), torch.Tensor):
            await super().put_data(data, metadata, data_parser)
            return
        index, shared = metadata.global_indexes[0], _shared(row)
        digests = {name: _digest(value) for name, value in shared.items()}
        async with group.lock:  # of rollouts that end together one is the first
            if group.first_row not in (None, index):
                data = data.copy()
                for name in shared:
                    if digests[name] == group.digests.get(name):
                        data.set(name, NonTensorStack(_reference(group.first_row, row[name], shared[name])))
            await super().put_data(data, metadata)
            if group.first_row is None:
                group.first_row, group.digests = index, digests
        metadata.custom_meta[0][FIRST_ROW] = group.first_row  # verl stores it among the row's tags

    async def get_data(self, metadata: BatchMeta) -> TensorDict:
        data = await super().get_data(metadata)
        columns = {name: _column(data, name) for name in data.keys() & {*SHARED}}
        referring = {name: values for name, values in columns.items() if any(map(_is_reference, values))}
        if not referring:
            return data
        at_hand = {index: place for place, index in enumerate(metadata.global_indexes)}
        wanted = {value[FIRST_ROW] for values in referring.values() for value in values if _is_reference(value)}
        missing = sorted(wanted - at_hand.keys())
        fetched = await super().get_data(
            BatchMeta(missing, [metadata.partition_ids[0]] * len(missing), {name: {} for name in referring})
        )
        for name, values in referring.items():
            firsts = {index: values[at_hand[index]] for index in wanted & at_hand.keys()}
            if missing:
                firsts |= dict(zip(missing, _column(fetched, name), strict=True))
            whole = [_resolved(value, firsts) if _is_reference(value) else value for value in values]
            data.set(name, self._pack_field_values(whole))
        return data


def register() -> None:
    """Have every process of a run that uses TransferQueue's SimpleStorage use it through PromptStore."""
    StorageManagerFactory.register("SimpleStorage")(PromptStore)


def stored_share(tags: list[dict[str, Any]]) -> float:
    """Prompts that are stored over rows, by the rows' tags: 1/n at best, 1 where every row has its own."""
    first_rows = [tag.get(FIRST_ROW) for tag in tags]
    return (len({*first_rows} - {None}) + first_rows.count(None)) / len(tags)


def _column(data: TensorDict, name: str) -> list[Any]:
    values = data[name]
    return list(values.unbind()) if isinstance(values, torch.Tensor) else list(values)


def _row(data: TensorDict) -> dict[str, Any]:
    """What matters here of a batch of one row."""
    return {name: _column(data, name)[0] for name in data.keys() & {"uid", *SHARED}}


def _shared(row: dict[str, Any]) -> dict[str, Any]:
    """Of each field what rows of a prompt may have in common; positions of pictures have more than one dimension."""
    length = len(row["prompts"])
    return {
        name: value[:length] if isinstance(value, torch.Tensor) else value
        for name, value in row.items()
        if not isinstance(value, torch.Tensor) or value.dim() == 1
    }


def _digest(value: Any) -> bytes:
    plain = value.numpy() if isinstance(value, torch.Tensor) else value
    return hashlib.blake2b(pickle.dumps(plain), digest_size=16).digest()


def _reference(first_row: int | None, value: Any, shared: Any) -> dict[str, Any]:
    if not isinstance(value, torch.Tensor):
        return {FIRST_ROW: first_row}
    return {FIRST_ROW: first_row, "beginning": len(shared), "rest": value[len(shared) :].clone()}


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and FIRST_ROW in value


def _resolved(reference: dict[str, Any], firsts: dict[int, Any]) -> Any:
    first = firsts[reference[FIRST_ROW]]
    return torch.cat([first[: reference["beginning"]], reference["rest"]]) if "rest" in reference else first
