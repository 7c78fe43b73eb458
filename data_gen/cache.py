"""Replies that were paid for are never asked for twice: one SQLite file, safe against a kill at any moment."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any


class ReplyCache:
    """Digest of a request -> reply (JSON); to be used by one process.

    Raises ValueError when `path` is no such cache, or in use.
    """

    def __init__(self, path: str | Path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")  # a third faster
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=OFF")  # a killed process loses nothing; a power cut may
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, reply TEXT, purpose TEXT) WITHOUT ROWID"
            )
        except sqlite3.OperationalError as error:
            raise ValueError(f"{path}: another process uses it ({error}); wait for it, or stop it") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{path}: {error}; the cache of replies is damaged: delete it, and its replies are asked for again"
            ) from error

    def get(self, key: bytes) -> Any | None:
        row = self._database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: bytes, reply: Any, purpose: str) -> None:
        self._database.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", (key, json.dumps(reply), purpose))

    def spent(self, purpose: str) -> dict[str, int]:
        """requests, prompt_tokens and completion_tokens of the replies kept for a purpose."""
        numbers = self._database.execute(
            "SELECT count(*), total(json_extract(reply, '$[2]')), total(json_extract(reply, '$[3]')) FROM replies "
            "WHERE purpose = ?",
            (purpose,),
        ).fetchone()
        return dict(zip(("requests", "prompt_tokens", "completion_tokens"), map(int, numbers), strict=True))

    def close(self) -> None:
        self._database.close()
