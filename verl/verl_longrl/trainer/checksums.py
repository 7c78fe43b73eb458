"""Whether a file's content is what was written.

`torch.save` writes zip files with a CRC-32 of each record, and `torch.load` does not look at them: a flipped bit is
loaded without a word (pytorch#126952). So of what torch wrote only the table at its end, which holds these, needs a
checksum of ours, and a look costs one read: 2.4 GB/s on one core, where `torch.load` takes in 1.4. Of other files
(safetensors, Megatron's, JSON, the tokenizer) the whole content is summed up.
"""

import errno
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 18
"""Bytes at a time, which stay in a core's cache: 4 MiB are half as fast."""
_THREADS = 4
"""Files at a time, in each trainer rank; neither reading nor summing holds Python's lock."""
_TABLE = "zip:"
_OF_DAMAGE = (errno.EIO, errno.EINVAL)
"""Errors of reading that are of the file itself: a disk that has lost it, a place that a damaged table names."""


@dataclass(frozen=True)
class Written:
    """A file as it was written. size: bytes. crc32: 8 hex digits of all its bytes, or "zip:" and those of its table."""

    size: int
    crc32: str


def write_through(folder: Path, names: Iterable[str]) -> dict[str, Written]:
    """Wait until the disk holds these files of `folder`; their sizes and checksums."""

    def one(name: str) -> tuple[str, Written]:
        with (folder / name).open("rb") as handle:
            os.fsync(handle.fileno())
            size = os.fstat(handle.fileno()).st_size
        return name, Written(size, _table_sum(folder / name) or crc32(folder / name))

    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(pool.map(one, names))


def damaged(folder: Path, expected: Mapping[str, str | None]) -> list[str]:
    """A line for each of these files whose content is not what was written. expected: name -> checksum, as `Written`
    has it; None: of torch's, from before tables were summed up. Raises OSError where the files cannot be read for now,
    which is no damage: a server that does not answer, permissions."""

    def one(name: str) -> str | None:
        try:
            problem = _problem(folder / name, expected[name])
        except OSError as error:
            if error.errno not in _OF_DAMAGE:
                raise
            problem = f"it cannot be read ({error.strerror})"
        return problem and f"{name} is damaged: {problem}"

    with ThreadPoolExecutor(_THREADS) as pool:
        return [line for line in pool.map(one, expected) if line is not None]


def crc32(path: Path, start: int = 0) -> str:
    """CRC-32 of a file's content from byte `start` on."""
    total, block = 0, memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as handle:
        handle.seek(start)
        while size := handle.readinto(block):
            total = zlib.crc32(block[:size], total)
    return f"{total:08x}"


def _table_sum(path: Path) -> str | None:
    """The checksum of the table of what `torch.save` wrote; None for any other file."""
    if path.suffix != ".pt" or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return f"{_TABLE}{crc32(path, archive.start_dir)}"


def _problem(path: Path, expected: str | None) -> str | None:
    if expected is None or expected.startswith(_TABLE):
        return _problem_of_torch(path, expected)
    found = crc32(path)
    return None if found == expected else f"its checksum is {found}, expected {expected}"


def _problem_of_torch(path: Path, table: str | None) -> str | None:
    """Which record is not what its checksum says, or that the table is not."""
    where = "its table"
    try:
        if table is not None and _table_sum(path) != table:
            return f"{where} is not as it was written"
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                where = f"record {record.filename}"
                with archive.open(record) as content:
                    while content.read(_BLOCK):
                        pass
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, LookupError, zlib.error) as error:
        return f"{where}: {error}"
    return None
