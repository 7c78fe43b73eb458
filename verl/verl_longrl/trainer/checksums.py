"""Check that a file's content is what was written.

`torch.save` writes zip files with a CRC-32 of each record, and `torch.load` does not compare them: a flipped bit is
loaded silently (pytorch#126952). So for files of torch only the table at the end, which contains these, needs a
checksum of ours, and a check costs one read: 2.4 GB/s on one core, where `torch.load` reaches 1.4. For other files
(safetensors, Megatron's, JSON, the tokenizer) the checksum is of the whole content.
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
"""Bytes per read. They fit into a core's cache; with 4 MiB it is half as fast."""
_THREADS = 4
"""Files at a time in each trainer rank. Neither reading nor CRC-32 holds Python's lock."""
_TABLE = "zip:"
_DAMAGE_ERRORS = (errno.EIO, errno.EINVAL)
"""Read errors that mean damage: the disk has lost the data, or a damaged table names an impossible position."""


@dataclass(frozen=True)
class Written:
    """A file as it was written. size: bytes. crc32: 8 hex digits of its content, or "zip:" and those of its table."""

    size: int
    crc32: str


def write_through(folder: Path, names: Iterable[str]) -> dict[str, Written]:
    """Wait until the disk has these files of `folder`. Returns name -> size and checksum."""

    def sync_and_sum(name: str) -> tuple[str, Written]:
        with (folder / name).open("rb") as handle:
            os.fsync(handle.fileno())
            size = os.fstat(handle.fileno()).st_size
        return name, Written(size, _table_sum(folder / name) or crc32(folder / name))

    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(pool.map(sync_and_sum, names))


def damaged(folder: Path, expected: Mapping[str, str | None]) -> list[str]:
    """A line for each of these files whose content is not what was written.

    expected: name -> checksum like `Written.crc32`; None for a file of torch from a version without checksums. Raises
    OSError if the files cannot be read at present (a server does not answer, permissions), which is not damage.
    """

    def check(name: str) -> str | None:
        try:
            problem = _problem(folder / name, expected[name])
        except OSError as error:
            if error.errno not in _DAMAGE_ERRORS:
                raise
            problem = f"it cannot be read ({error.strerror})"
        return problem and f"{name} is damaged: {problem}"

    with ThreadPoolExecutor(_THREADS) as pool:
        return [line for line in pool.map(check, expected) if line is not None]


def crc32(path: Path, start: int = 0) -> str:
    """CRC-32 of a file's content from byte `start` on."""
    total, block = 0, memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as handle:
        handle.seek(start)
        while size := handle.readinto(block):
            total = zlib.crc32(block[:size], total)
    return f"{total:08x}"


def _table_sum(path: Path) -> str | None:
    """The checksum of the table of a file of `torch.save`; None for any other file."""
    if path.suffix != ".pt" or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return f"{_TABLE}{crc32(path, archive.start_dir)}"


def _problem(path: Path, expected: str | None) -> str | None:
    if expected is None or expected.startswith(_TABLE):
        return _problem_of_torch_file(path, expected)
    actual = crc32(path)
    return None if actual == expected else f"its checksum is {actual}, expected {expected}"


def _problem_of_torch_file(path: Path, table: str | None) -> str | None:
    """The first record, or the table, that does not match its checksum."""
    where = "its table"
    try:
        if table is not None and _table_sum(path) != table:
            return f"{where} has changed since it was written"
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                where = f"record {record.filename}"
                # zipfile compares the CRC-32 of a record when it is read to its end.
                with archive.open(record) as content:
                    while content.read(_BLOCK):
                        pass
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, LookupError, zlib.error) as error:
        return f"{where}: {error}"
    return None
