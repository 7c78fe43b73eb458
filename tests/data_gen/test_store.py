"""Parts appear whole or not at all, documents are joined by id, and a folder refuses what does not fit it."""

import json
import threading
import time

import numpy as np
import pytest

from data_gen.store import Shard, Store, StoreError, dropped_row


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "ingest")


def test_rows_come_back_in_order_and_are_counted(store):
    rows = [
        {"id": "a", "counts": {"chunks": 2}},
        dropped_row("b", "too_short", "3 tokens"),
        {"id": "c", "counts": {"chunks": 5}},
    ]
    counts = store.write("chunk", "000", rows)
    assert list(store.read("chunk", "000")) == rows
    assert counts == {"documents": 3, "chunks": 7, "dropped: too_short": 1}
    assert store.parts("chunk") == ["000"]


def test_a_part_that_fails_leaves_nothing(store):
    def rows():
        yield {"id": "a"}
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.write("chunk", "000", rows())
    assert list((store.root / "chunk").iterdir()) == []


def test_documents_join_the_rows_of_stages_and_leave_out_the_dropped(store):
    store.write("ingest", "0", [{"id": name, "text": name * 2} for name in "abcd"])
    store.write("chunk", "0", [{"id": "a", "n": 1}, dropped_row("b", "bad"), {"id": "c", "n": 3}, {"id": "d", "n": 4}])
    store.write("embed", "0", [{"id": "a"}, {"id": "c"}, dropped_row("d", "bad")])
    joined = list(store.documents("0", ("ingest", "chunk", "embed")))
    assert [(d["ingest"]["text"], d["chunk"]["n"]) for d in joined] == [("aa", 1), ("cc", 3)]
    store.write("embed", "0", [{"id": "x"}])
    with pytest.raises(StoreError, match=r"has no document x, which stage embed has.*--redo embed"):
        list(store.documents("0", ("ingest", "embed")))


def test_a_damaged_line_is_named(store):
    store.write("chunk", "0", [{"id": "a"}, {"id": "b"}])
    path = store.root / "chunk" / "0.jsonl"
    path.write_text(path.read_text()[:-4])
    with pytest.raises(StoreError, match=r"0.jsonl: line 2: not JSON .*make it again with --redo chunk"):
        list(store.read("chunk", "0"))


def test_other_settings_are_refused_by_name(store):
    store.begin("cluster", {"min_size": 3, "seed": 0})
    store.begin("cluster", {"min_size": 4, "seed": 0})  # nothing was made with the first try
    store.write("cluster", "0", [{"id": "a"}])
    store.begin("cluster", {"min_size": 4, "seed": 0})
    with pytest.raises(StoreError, match=r"was made with min_size = 4, now it is 5. .*--redo cluster"):
        store.begin("cluster", {"min_size": 5, "seed": 0})
    store.remove(["cluster"])
    store.begin("cluster", {"min_size": 5, "seed": 0})


def test_ranks_share_parts_and_their_markers_add_up(tmp_path):
    parts = [f"{i}" for i in range(5)]
    assert [Shard(rank, 2).of(parts) for rank in range(2)] == [["0", "2", "4"], ["1", "3"]]
    ranks = [Store(tmp_path, "ingest", Shard(rank, 2)) for rank in range(2)]
    ranks[0].finish("chunk", {"documents": 3, "dropped: bad": 1}, seconds=1.5)
    assert ranks[0].is_done("chunk")
    assert not ranks[1].is_done("chunk")
    assert ranks[0].report("chunk") is None
    ranks[1].finish("chunk", {"documents": 2}, seconds=0.5)
    assert ranks[0].report("chunk") == {"counts": {"documents": 5, "dropped: bad": 1}, "seconds": 2.0}
    for rank, world in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=r"expected a rank from 0 to world size - 1"):
            Shard(rank, world)


def test_waiting_for_another_rank(tmp_path):
    store, other = (Store(tmp_path, "ingest", Shard(rank, 2)) for rank in range(2))
    store.finish("ingest", {})
    with pytest.raises(StoreError, match=r"stage ingest: ranks 1 of 2 have not finished.*--rank R --world-size 2"):
        store.wait_for("ingest", range(2), patience_s=0.05, poll_s=0.01)
    threading.Timer(0.1, lambda: other.finish("ingest", {})).start()
    began = time.monotonic()
    store.wait_for("ingest", range(2), patience_s=30, poll_s=0.01)
    assert time.monotonic() - began < 20


def test_one_process_at_a_time(tmp_path):
    with (
        Store(tmp_path, "ingest").locked(),
        pytest.raises(StoreError, match="another process is working in"),
        Store(tmp_path, "ingest").locked(),
    ):
        pass
    with Store(tmp_path, "ingest").locked(), Store(tmp_path, "ingest", Shard(1, 2)).locked():
        pass


def test_arrays_belong_to_parts(store):
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    store.write_array("embed", "0", array)
    assert np.array_equal(store.read_array("embed", "0"), array)
    assert json.dumps(store.parts("embed")) == "[]"  # the part itself is what counts


def test_lone_surrogates_are_replaced(store):
    store.write("chunk", "0", [{"id": "a", "title": "bad \ud800"}])
    assert next(iter(store.read("chunk", "0")))["title"] == "bad ?"


def test_a_missing_part_is_named(store):
    with pytest.raises(
        StoreError, match=r"7.jsonl is missing, but its stage has finished. Fix: make it again with --redo chunk"
    ):
        list(store.read("chunk", "7"))


def begun(store: Store, *stages: str) -> None:
    for stage in stages:
        store.begin(stage, {"seed": 0})
        store.write(stage, "0", [{"id": "a"}])
        store.finish(stage, {"documents": 1})


def everything(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*")}


def test_only_what_stages_wrote_is_deleted(store):
    begun(store, "chunk", "embed", "haystack")
    store.write_array("embed", "0", np.zeros(3))
    store.record_first("chunk", "server-default", {"model": "m"})
    (store.root / "haystack" / "passages").mkdir()
    (store.root / "haystack" / "passages" / "texts.bin").write_bytes(b"")
    (store.root / "thesis").mkdir()
    store.remove(["chunk", "embed", "haystack", "absent"])
    assert everything(store) == {"thesis"}


@pytest.mark.parametrize("foreign", ["notes.txt", "sub/0.jsonl", "passages/notes.txt", ".hidden"])
def test_a_stage_with_something_of_the_users_is_left_alone_with_all_others(store, foreign: str):
    begun(store, "chunk", "embed")
    path = store.root / "embed" / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    before = everything(store)
    with pytest.raises(StoreError, match=rf"embed also holds .*{foreign.split('/')[0]}.*.* Fix: move these files away"):
        store.remove(["chunk", "embed"])
    assert everything(store) == before


def test_a_folder_of_the_name_of_a_stage_is_not_one(store, tmp_path_factory):
    begun(store, "ingest")
    (store.root / "chunk").mkdir()
    (store.root / "chunk" / "0.jsonl").write_text("mine")
    elsewhere = tmp_path_factory.mktemp("disk")
    (store.root / "embed").symlink_to(elsewhere)
    begun(store, "embed")
    before = everything(store)
    for stage in ("chunk", "embed"):
        with pytest.raises(StoreError, match=rf"{stage} was not made by data_gen"):
            store.remove(["ingest", stage])
    assert everything(store) == before


def test_no_run_begins_where_others_files_would_be_replaced(store):
    stages, files = ["ingest", "chunk"], ["README.md", "train.parquet"]
    store.require_room(stages, files)
    (store.root / "chunk").mkdir()
    store.require_room(stages, files)  # as a rank that has just begun leaves it for a moment
    (store.root / "README.md").write_text("mine")
    (store.root / "chunk" / "0.jsonl").write_text("mine")
    with pytest.raises(StoreError, match=r"holds chunk, README\.md, which no run of data_gen made"):
        store.require_room(stages, files)
    (store.root / "chunk" / "0.jsonl").unlink()
    begun(store, "ingest")
    store.require_room(stages, files)  # the run's own by now
