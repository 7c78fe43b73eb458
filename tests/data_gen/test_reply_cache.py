"""Replies are found again by whoever makes their part, and what was paid for them is counted once."""

import asyncio

import pytest

from data_gen.reply_cache import PartCaches, ReplyCache


def test_a_damaged_cache_is_named(tmp_path):
    (tmp_path / "c.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ValueError, match=r"c.sqlite: .*delete it; its replies are requested again"):
        ReplyCache(tmp_path / "c.sqlite")


def test_each_part_has_replies_of_its_own_which_anybody_finds_again(tmp_path):
    async def ask(caches, part, reply):
        caches.enter(part)
        await asyncio.gather(put(caches, reply + "1"), put(caches, reply + "2"))  # tasks that this one starts
        caches.leave(part)

    async def put(caches, reply):
        await asyncio.sleep(0.01)
        caches.put(reply.encode(), [reply, "stop", 5, 2], "judge big")

    async def all_parts():
        caches = PartCaches(tmp_path, ["0", "1"])
        await asyncio.gather(ask(caches, "0", "a"), ask(caches, "1", "b"))
        caches.close()

    asyncio.run(all_parts())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.sqlite", "1.sqlite"]
    other = PartCaches(tmp_path, ["1", "2"])  # another process, to which another share has fallen
    other.enter("1")
    assert other.get(b"b2") == ["b2", "stop", 5, 2]
    assert other.get(b"a1") is None
    assert other.spent("judge big") == {"requests": 2, "prompt_tokens": 10, "completion_tokens": 4}
    assert other.spent("judge small")["requests"] == 0
    assert not (tmp_path / "2.sqlite").exists()
    with pytest.raises(ValueError, match=r"1.sqlite: another process uses it"):
        ReplyCache(tmp_path / "1.sqlite")
    other.close()
    ReplyCache(tmp_path / "1.sqlite").close()
