"""What files hold, in a few characters: two that agree have the same content, wherever they lie.

A data file is read whole: the preflight reads all of its rows anyway, which takes many times as long. Of a model's
weights size and samples are enough to tell two models apart; its configuration, tokenizer and chat template are small,
and read whole. A model of the hub is its commit, a scorer its source.
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
"""A digest or a commit; of several files, theirs by name."""

WHOLE_BYTES, SAMPLE_BYTES = 2**20, 2**18
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
OF_A_MODEL = (
    *("config.json", "generation_config.json", "*token*.json", "vocab*", "merges.txt", "chat_template*", "*.jinja"),
    *("*.model", "*.tiktoken", "*.py", "*.index.json", "additional_chat_templates/*.jinja"),
)
"""Files of a model's folder that decide what it computes, the second beside its weights."""
REMEMBERED_BYTES = 2**26
"""Larger files are not read again as long as their size and times stay."""
_SETTLED_S = 2.0
"""A file that was changed so recently may change again within the resolution of its times."""
_BLOCK_BYTES = 2**22
_SNAPSHOT = re.compile(r"/models--[^/]+/snapshots/([0-9a-f]+)/?")

_known: dict[str, list[str]] = {}


def of_file(file: Path) -> str:
    """The digest of a whole file. Raises OSError."""
    place, as_it_is = os.path.realpath(file), _stat(file)
    before, known = _known.get(place, ["", ""])
    if before == as_it_is:
        return known
    found = _digest(file)
    if time.time() - file.stat().st_mtime > _SETTLED_S and _stat(file) == as_it_is:
        _known[place] = [as_it_is, found]
    return found


def sampled(file: Path) -> str:
    """Size and digest of a file; of one larger than WHOLE_BYTES, of samples at its beginning, middle and end. Raises
    OSError."""
    size = file.stat().st_size
    offsets = None if size <= WHOLE_BYTES else (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES)
    return f"{size} bytes, {_digest(file, offsets)[:12]}"


def of_model(model: str) -> Content | None:
    """Of a folder the files of a model, tokenizer or adapter in it; of a model in the hub's cache its commit; of
    anything else None."""
    folder = Path(model)
    if hub_access.is_name(model):
        cached = try_to_load_from_cache(model, "config.json")
        folder = Path(cached).parent if isinstance(cached, str) else folder
    if snapshot := _SNAPSHOT.search(str(folder)):
        return f"commit {snapshot[1]}"
    return {
        str(file.relative_to(folder)): digest(file)
        for digest, patterns in ((sampled, WEIGHTS), (of_file, OF_A_MODEL))
        for pattern in patterns
        for file in sorted(folder.glob(pattern))
        if file.is_file()
    } or None


def of_module(name: str) -> Content | None:
    """The sources of a module, and of all modules of a package; None where it cannot be found."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    files = sorted(folder.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    return {str(file.relative_to(folder)): of_file(file) for file in files}


def recall(memory: Path) -> None:
    """Use the digests in a file that `remember` wrote; one that cannot be read is of no use."""
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return
    _known.update({place: entry for place, entry in found.items() if isinstance(entry, list) and len(entry) == 2})


def remembered(files: Iterable[str]) -> str | None:
    """What `recall` reads: the digests of the large ones of these files; None where there are none."""
    places = {os.path.realpath(file) for file in files if os.path.isfile(file)}
    large = {place: _known[place] for place in places & _known.keys() if os.path.getsize(place) > REMEMBERED_BYTES}
    return json.dumps(large, indent=1) if large else None


def _digest(file: Path, offsets: Iterable[int] | None = None) -> str:
    """Of the whole file, or of samples from these offsets."""
    found = xxhash.xxh3_128()
    with file.open("rb", buffering=0) as content:
        if offsets is None:
            block = memoryview(bytearray(_BLOCK_BYTES))
            while read := content.readinto(block):
                found.update(block[:read])
        else:
            for offset in offsets:
                content.seek(offset)
                found.update(content.read(SAMPLE_BYTES))
    return str(found.hexdigest())


def _stat(file: Path) -> str:
    """Changes whenever the file is written to: the last number cannot be set."""
    found = file.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
