"""The stage makes each part once, whoever stops it, and the same rows however they are shared out."""

import pytest

from data_gen.keychain.needles import RetrievalOptions
from data_gen.keychain.passage_pool import PassageMeasure, build_haystack
from data_gen.keychain.prompt_composer import PromptComposeOptions
from data_gen.keychain.retrieval import RetrievalStage
from data_gen.store import Shard, Store, StoreError

pytestmark = pytest.mark.engine
OPTIONS = {"multi_key": 11, "multi_value": 3, "sentence": 5, "keys": 4, "values": 4}
PARTS = ["multi_key-000000", "multi_key-000001", "multi_key-000002", "multi_value-000000", "sentence-000000"]
PARTS += ["sentence-000001"]


@pytest.fixture
def retrieve(tmp_path, haystack, tokenizer):
    """retrieve(folder, rank, world_size, **options) -> the store, after the stage."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    texts = [haystack.raw(number).decode() for number in range(len(haystack))]

    def make(folder, rank=0, world_size=1, part_documents=4, **options):
        store = Store(tmp_path / folder, "questions", Shard(rank, world_size))
        if not store.is_done("haystack"):
            store.begin("haystack", {})
            build_haystack(store.root / "haystack" / "passages", texts, PassageMeasure(tokenizer.backend_tokenizer))
            store.finish("haystack", {}, whole=True)
        options, compose = RetrievalOptions(**(OPTIONS | options)), PromptComposeOptions(2048)
        stage = RetrievalStage(options, compose, str(tmp_path / "tokenizer"), part_documents, 0)
        stage.check_before_run()
        stage.run(store, 0)
        return store

    return make


def files(store):
    return {path.stem: path.read_bytes() for path in (store.root / "retrieval").glob("*.jsonl")}


def test_ranks_share_its_parts_and_make_the_same_rows(retrieve):
    alone = retrieve("alone")
    assert alone.parts("retrieval") == PARTS
    first = retrieve("shared", 0, 2)
    assert first.parts("retrieval") == PARTS[::2]
    assert first.report("retrieval") is None
    shared = retrieve("shared", 1, 2)
    assert files(shared) == files(alone)
    assert shared.report("retrieval")["counts"] == alone.report("retrieval")["counts"]
    assert alone.report("retrieval")["counts"]["documents"] == 19
    rows = lambda store: [row for part in store.parts("retrieval") for row in store.read("retrieval", part)]  # noqa: E731
    assert [row["id"] for row in rows(alone)] == [
        f"{kind}-{number}" for kind in ("multi_key", "multi_value", "sentence") for number in range(OPTIONS[kind])
    ]
    assert rows(retrieve("larger", part_documents=64)) == rows(alone)


def test_what_was_made_stays_and_what_is_missing_is_made(retrieve):
    store = retrieve("run")
    before, counts = files(store), store.report("retrieval")["counts"]
    folder = store.root / "retrieval"
    for name in ("rank-0-of-1.json", "multi_key-000001.jsonl", "sentence-000001.jsonl"):
        (folder / name).unlink()  # as a process that was killed leaves it
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}
    retrieve("run")
    assert files(store) == before
    assert store.report("retrieval")["counts"] == counts
    assert {path: path.stat().st_mtime_ns for path in times} == times
    store.remove(["retrieval"])
    assert files(retrieve("run")) == before


def test_other_settings_are_refused(retrieve):
    retrieve("run")
    with pytest.raises(StoreError, match=r"made with retrieval.multi_key = 11, now it is 12.*--redo retrieval"):
        retrieve("run", multi_key=12)


def test_nothing_is_made_unless_asked_for(retrieve):
    store = retrieve("run", multi_key=0, multi_value=0, sentence=0)
    assert files(store) == {}
    assert store.is_done("retrieval")
    assert not RetrievalStage(RetrievalOptions(), PromptComposeOptions(), "nobody", 4, 0).is_enabled()
