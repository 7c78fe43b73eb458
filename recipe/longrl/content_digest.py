"""Digests of files, models and modules, to tell whether two of them have the same content.

Data files are read whole; the preflight reads all of their rows anyway, which takes many times as long. For a model's
weights, the size and samples are enough to tell two models apart; its configuration, tokenizer and chat template are
small and read whole. A model on the hub is identified by its commit, a scorer by its source.
"""

import importlib.util
import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

import xxhash
from huggingface_hub import try_to_load_from_cache

from recipe.longrl import hub_access

Content = str | dict[str, str]
"""A digest or a commit; for several files, their digests by name."""

WHOLE_BYTES, SAMPLE_BYTES = 2**20, 2**18
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
OF_A_MODEL = (
    *("config.json", "generation_config.json", "*token*.json", "vocab*", "merges.txt", "chat_template*", "*.jinja"),
    *("*.model", "*.tiktoken", "*.py", "*.index.json", "additional_chat_templates/*.jinja"),
)
"""Files in a model's folder that decide what it computes: its weights, and all others."""
CACHED_BYTES = 2**26
"""Digests of larger files are cached as long as their size and times do not change."""
_SETTLED_S = 2.0
"""A file that was changed more recently may change again without a change of its times, so it is not cached."""
_BLOCK_BYTES = 2**22
_SNAPSHOT = re.compile(r"/models--[^/]+/snapshots/([0-9a-f]+)/?")

_cache: dict[str, list[str]] = {}
"""Path -> size and times of a file, and its digest."""


def digest_file(file: Path) -> str:
    """The digest of a whole file. Raises OSError."""
    path, state = os.path.realpath(file), _stat(file)
    cached_state, cached_digest = _cache.get(path, ["", ""])
    if cached_state == state:
        return cached_digest
    digest = _digest(file)
    if time.time() - file.stat().st_mtime > _SETTLED_S and _stat(file) == state:
        _cache[path] = [state, digest]
    return digest


def digest_samples(file: Path) -> str:
    """Size and digest of a file; of samples at its beginning, middle and end if it is larger than WHOLE_BYTES.

    Raises OSError.
    """
    size = file.stat().st_size
    offsets = None if size <= WHOLE_BYTES else (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES)
    return f"{size} bytes, {_digest(file, offsets)[:12]}"


def digest_model(model: str) -> Content | None:
    """The files of a model, tokenizer or adapter in a folder, or the commit of a model in the hub's cache.

    None for anything else, such as a model that is not cached yet. Raises OSError.
    """
    folder = Path(model)
    if hub_access.is_hub_name(model):
        cached = try_to_load_from_cache(model, "config.json")
        folder = Path(cached).parent if isinstance(cached, str) else folder
    if snapshot := _SNAPSHOT.search(str(folder)):
        return f"commit {snapshot[1]}"
    return {
        str(file.relative_to(folder)): digest(file)
        for digest, patterns in ((digest_samples, WEIGHTS), (digest_file, OF_A_MODEL))
        for pattern in patterns
        for file in sorted(folder.glob(pattern))
        if file.is_file()
    } or None


def digest_module(name: str) -> Content | None:
    """The source of a module, or of all modules of a package; None where it cannot be found. Raises OSError."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    files = sorted(folder.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    return {str(file.relative_to(folder)): digest_file(file) for file in files}


def load_cache(file: Path) -> None:
    """Use the digests in a file with the text of `dump_cache`; ignores a file that cannot be read."""
    try:
        entries = json.loads(file.read_text())
    except (OSError, ValueError):
        return
    _cache.update({path: entry for path, entry in entries.items() if isinstance(entry, list) and len(entry) == 2})


def dump_cache(files: Iterable[str]) -> str | None:
    """The text that `load_cache` reads, with the digests of those of these files that are large; None without any."""
    paths = {os.path.realpath(file) for file in files if os.path.isfile(file)}
    large = {path: _cache[path] for path in paths & _cache.keys() if os.path.getsize(path) > CACHED_BYTES}
    return json.dumps(large, indent=1) if large else None


def _digest(file: Path, offsets: Iterable[int] | None = None) -> str:
    """Digest the whole file, or samples at these offsets."""
    digest = xxhash.xxh3_128()
    with file.open("rb", buffering=0) as content:
        if offsets is None:
            block = memoryview(bytearray(_BLOCK_BYTES))
            while read := content.readinto(block):
                digest.update(block[:read])
        else:
            for offset in offsets:
                content.seek(offset)
                digest.update(content.read(SAMPLE_BYTES))
    return str(digest.hexdigest())


def _stat(file: Path) -> str:
    """A text that changes whenever the file is written to; st_ctime cannot be set by a user."""
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
