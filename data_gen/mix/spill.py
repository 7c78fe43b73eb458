"""Keep samples in a temporary file, to read them back in any order without holding them in memory.

The file has no name in the folder, so nothing of it remains, however the process ends.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from verl_longrl.data.schema import Sample


class Spill:
    """A temporary file of samples. It takes as much disk space in `folder` as the texts have bytes, and in memory a key
    and an offset for each sample."""

    def __init__(self, folder: Path):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by __exit__)
        self._offsets: dict[bytes, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, key: bytes) -> bool:
        return key in self._offsets

    def add(self, key: bytes, sample: Sample) -> None:
        """Store a sample under a new key. All samples must be added before the first one is read."""
        self._offsets[key] = self._file.tell()
        self._file.write(json.dumps(sample.to_row(), ensure_ascii=False).encode() + b"\n")

    def get(self, key: bytes) -> Sample:
        """The sample of this key."""
        self._file.seek(self._offsets[key])
        return Sample.from_row(json.loads(self._file.readline()))
