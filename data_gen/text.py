"""Words, digests and seeds of texts, shared by the pipelines."""

from __future__ import annotations

import hashlib
import re

_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿가-힯]|[^\W_぀-ヿ㐀-䶿一-鿿豈-﫿가-힯]+")


def words(text: str) -> list[str]:
    """Lower-cased words without punctuation; each Chinese, Japanese or Korean character is a word of its own."""
    return _WORD.findall(text.casefold())


def digest(*parts: object, size: int = 16) -> bytes:
    """A digest of `size` bytes that depends only on the parts' texts."""
    return hashlib.blake2b("\x00".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=size).digest()


def derive_seed(*parts: object) -> int:
    """A 31-bit seed (every server accepts these) from any parts; equal parts give equal seeds on every machine."""
    return int.from_bytes(digest(*parts, size=4), "big") >> 1
