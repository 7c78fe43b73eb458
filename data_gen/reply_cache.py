"""Cache the replies of models, so that a resumed run, with any number of processes, requests none of them again."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_PART: ContextVar[str] = ContextVar("part")


class ReplyCache:
    """Digest of a request -> reply (JSON), in an SQLite file that a kill at any moment leaves intact. For one process.

    Raises ValueError if `path` is not such a file, or is in use.
    """

    def __init__(self, path: str | Path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            # The exclusive lock makes it a third faster. Without synchronous writes, a killed process loses nothing,
            # but a power cut may lose the last replies.
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=OFF")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, reply TEXT, purpose TEXT) WITHOUT ROWID"
            )
        except sqlite3.OperationalError as error:
            raise ValueError(f"{path}: another process uses it ({error}). Fix: wait for it, or stop it") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{path}: the cache of replies is damaged ({error}). Fix: delete it; its replies are requested again"
            ) from error

    def get(self, key: bytes) -> Any | None:
        """The reply to a request, None if it is not in the cache."""
        row = self._database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: bytes, reply: Any, purpose: str) -> None:
        """Store a reply; a reply that is already there stays."""
        self._database.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", (key, json.dumps(reply), purpose))

    def spent(self, purpose: str) -> dict[str, int]:
        """The requests, prompt_tokens and completion_tokens of all replies with this purpose."""
        numbers = self._database.execute(
            "SELECT count(*), total(json_extract(reply, '$[2]')), total(json_extract(reply, '$[3]')) FROM replies "
            "WHERE purpose = ?",
            (purpose,),
        ).fetchone()
        return dict(zip(("requests", "prompt_tokens", "completion_tokens"), map(int, numbers), strict=True))

    def close(self) -> None:
        self._database.close()


class PartCaches:
    """One cache file for each part of a run's documents, so that a part's replies are found by the process that makes
    the part: a single one, or any rank of any world size.

    `enter` sets the part for the asyncio task that calls it and for all tasks that this one starts later. `spent` sums
    over `parts`, those of this process.
    """

    def __init__(self, folder: Path, parts: Iterable[str]):
        self.folder, self.parts = folder, list(parts)
        self._caches: dict[str, ReplyCache] = {}

    def enter(self, part: str) -> None:
        """Use the cache of this part from now on."""
        _PART.set(part)

    def leave(self, part: str) -> None:
        """The part is finished: close its file."""
        if part in self._caches:
            self._caches.pop(part).close()

    def get(self, key: bytes) -> Any | None:
        return self._cache(_PART.get()).get(key)

    def put(self, key: bytes, reply: Any, purpose: str) -> None:
        self._cache(_PART.get()).put(key, reply, purpose)

    def spent(self, purpose: str) -> dict[str, int]:
        """The sum of ReplyCache.spent over all parts."""
        total: Counter[str] = Counter()
        for part in self.parts:
            if self._file(part).exists():
                is_open = part in self._caches
                total.update(self._cache(part).spent(purpose))
                if not is_open:
                    self.leave(part)
        return dict(total)

    def close(self) -> None:
        for part in list(self._caches):
            self.leave(part)

    def _file(self, part: str) -> Path:
        return self.folder / f"{part}.sqlite"

    def _cache(self, part: str) -> ReplyCache:
        if part not in self._caches:
            self._caches[part] = ReplyCache(self._file(part))
        return self._caches[part]
