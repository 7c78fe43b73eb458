"""Store each prompt once in TransferQueue, however many rollouts it has.

verl stores a row for each rollout, with the whole prompt in each: `prompts`, `input_ids` and `position_ids`, 24 bytes
per token, and the text. Here the first row of a prompt is stored like verl's. In the others, everything equal to the
first row is replaced by a reference to it: of a tensor the beginning, as long as the prompt, of any other value all of
it.

For example, prompt [7, 8, 9] and responses [1] and [2, 3] give the `input_ids`

    row 0: [7, 8, 9, 1]
    row 1: {first_row: 0, beginning: 3, rest: [2, 3]}     read as [7, 8, 9, 2, 3]

Readers get what was stored: the process that fetches rows resolves references, and fetches a first row once for all
rows that refer to it. The trainer, its ranks, padding and dumps of rollouts see no difference. A process without
LongRL's plugin would find dictionaries where it expects tensors, and fail.

Invariant: no reference outlives its first row, because rows of a prompt are cleared together: at the end of a step,
when a group is filtered out, has failed or is left over, and after a validation.
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
"""Long fields that agent loops write once and nothing changes later, so a reference cannot become stale."""
FIRST_ROW = "longrl_first_row"
"""Key in a row's tag and in a reference. Its value is the index of the row that has the prompt."""


@dataclass
class StoredPrompt:
    """A prompt whose rollouts are running. first_row: its index, once it is stored. digests: field -> digest of the
    part that other rows may share with the first one. lock: held while a row is stored."""

    first_row: int | None = None
    digests: dict[str, bytes] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class PromptStore(AsyncSimpleStorageManager):
    """TransferQueue's client of SimpleStorage. Rows stored one at a time within `group(uid)` share their prompt."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prompts: dict[str, StoredPrompt] = {}

    @contextmanager
    def group(self, uid: str) -> Iterator[None]:
        """Use it while the rollouts of a prompt run. verl runs them all in one process and its one event loop."""
        self._prompts[uid] = StoredPrompt()
        try:
            yield
        finally:
            del self._prompts[uid]

    async def put_data(
        self, data: TensorDict, metadata: BatchMeta, data_parser: Callable[[Any], Any] | None = None
    ) -> None:
        # Agent loops store one row at a time. Writes of several rows, such as advantages, have no prompts to share.
        row = _row(data) if metadata.size == 1 and data_parser is None else {}
        prompt = self._prompts.get(row.pop("uid", ""))
        if prompt is None or not isinstance(row.get("prompts"), torch.Tensor):
            await super().put_data(data, metadata, data_parser)
            return
        index, shared = metadata.global_indexes[0], _shared(row)
        # Digests, so that the first row's long fields need not stay in memory until the last rollout has ended.
        digests = {name: _digest(value) for name, value in shared.items()}
        # The lock makes one row the first when rollouts end together, and keeps others from referring to it before it
        # is stored.
        async with prompt.lock:
            # A row that is stored twice does not refer to itself.
            if prompt.first_row not in (None, index):
                # The copy is shallow. The caller's own rows must not change.
                data = data.copy()
                for name in shared:
                    # Rollouts of agents may have prompts of their own. Then the row keeps its prompt.
                    if digests[name] == prompt.digests.get(name):
                        data.set(name, NonTensorStack(_reference(prompt.first_row, row[name], shared[name])))
            await super().put_data(data, metadata)
            if prompt.first_row is None:
                prompt.first_row, prompt.digests = index, digests
        # TransferQueue makes it a tag of the row.
        metadata.custom_meta[0][FIRST_ROW] = prompt.first_row

    async def get_data(self, metadata: BatchMeta) -> TensorDict:
        data = await super().get_data(metadata)
        columns = {name: _column(data, name) for name in data.keys() & {*SHARED}}
        referring = {name: values for name, values in columns.items() if any(map(_is_reference, values))}
        if not referring:
            return data
        referenced: set[int] = set()
        for values in referring.values():
            referenced |= {value[FIRST_ROW] for value in values if _is_reference(value)}
        # First rows are often in the same batch; only the others are fetched.
        place_of = {index: place for place, index in enumerate(metadata.global_indexes)}
        missing = sorted(referenced - place_of.keys())
        fetched = await super().get_data(
            BatchMeta(missing, [metadata.partition_ids[0]] * len(missing), {name: {} for name in referring})
        )
        for name, values in referring.items():
            first_values = {index: values[place_of[index]] for index in referenced & place_of.keys()}
            if missing:
                first_values |= dict(zip(missing, _column(fetched, name), strict=True))
            whole = [_resolve(value, first_values) if _is_reference(value) else value for value in values]
            data.set(name, self._pack_field_values(whole))
        return data


def register() -> None:
    """Replace TransferQueue's SimpleStorage client by PromptStore in this process."""
    StorageManagerFactory.register("SimpleStorage")(PromptStore)


def prompt_storage_fraction(tags: list[dict[str, Any]]) -> float:
    """Stored prompts per row, from the rows' tags: 1/n for n rollouts per prompt, 1 if every row has its own."""
    first_rows = [tag.get(FIRST_ROW) for tag in tags]
    return (len({*first_rows} - {None}) + first_rows.count(None)) / len(tags)


def _column(data: TensorDict, name: str) -> list[Any]:
    values = data[name]
    return list(values.unbind()) if isinstance(values, torch.Tensor) else list(values)


def _row(data: TensorDict) -> dict[str, Any]:
    """The uid and the fields that can be shared, of a batch of one row."""
    return {name: _column(data, name)[0] for name in data.keys() & {"uid", *SHARED}}


def _shared(row: dict[str, Any]) -> dict[str, Any]:
    """The part of each field that rows of a prompt may have in common."""
    length = len(row["prompts"])
    shared: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, torch.Tensor):
            shared[name] = value
        # Positions of images have more dimensions.
        elif value.dim() == 1:
            shared[name] = value[:length]
    return shared


def _digest(value: Any) -> bytes:
    plain = value.numpy() if isinstance(value, torch.Tensor) else value
    return hashlib.blake2b(pickle.dumps(plain), digest_size=16).digest()


def _reference(first_row: int | None, value: Any, shared: Any) -> dict[str, Any]:
    if not isinstance(value, torch.Tensor):
        return {FIRST_ROW: first_row}
    return {FIRST_ROW: first_row, "beginning": len(shared), "rest": value[len(shared) :].clone()}


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and FIRST_ROW in value


def _resolve(reference: dict[str, Any], first_values: dict[int, Any]) -> Any:
    first = first_values[reference[FIRST_ROW]]
    return torch.cat([first[: reference["beginning"]], reference["rest"]]) if "rest" in reference else first
