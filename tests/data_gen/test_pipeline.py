"""Stages make each part once, in order, whatever happens; documents are in work concurrently, but not all of them."""

import asyncio
from collections import Counter

import pytest

from data_gen.pipeline import DocumentStage, PartStage, PipelineStage, WholeStage
from data_gen.store import Shard, Store, StoreError, dropped_row


class WithoutOptions:
    """A stage that reads nothing from a configuration."""

    @classmethod
    def from_config(cls, config, inputs):
        return cls()


class Source(WithoutOptions, PipelineStage):
    """Four parts of three documents."""

    name = "source"

    def settings(self):
        return {"parts": 4}

    def _make(self, store):
        counts = Counter()
        for part in range(4):
            counts += store.write("source", f"{part}", [{"id": f"{part}{n}", "n": n} for n in range(3)])
        return counts, {}


class Double(WithoutOptions, PartStage):
    name, after = "double", ("source",)
    made: list[str]

    def settings(self):
        return {"factor": 2}

    def rows(self, store, part, documents):
        self.made.append(part)
        return [{"id": d["source"]["id"], "n": 2 * d["source"]["n"]} for d in documents]


class Slow(WithoutOptions, DocumentStage):
    name, after, window = "slow", ("source", "double"), 5

    def __init__(self, fail=""):
        self.fail, self.asked, self.at_once, self.most = fail, [], 0, 0

    def settings(self):
        return {}

    async def row(self, document):
        name = document["double"]["id"]
        self.asked.append(name)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0.03 if name.endswith("0") else 0.01)  # later documents finish first
        self.at_once -= 1
        if name == self.fail:
            raise RuntimeError("no server")
        return dropped_row(name, "odd") if document["double"]["n"] == 2 else {"id": name, "counts": {"asked": 1}}

    def totals(self, store):
        return {"requests": len(self.asked)}


class Whole(WithoutOptions, WholeStage):
    name, after = "whole", ("slow",)

    def settings(self):
        return {}

    def make(self, store, advance):
        return sum(
            (store.write("whole", p, [d["slow"] for d in store.documents(p, ("slow",))]) for p in store.parts("slow")),
            Counter(),
        )


def double():
    stage = Double()
    stage.made = []
    return stage


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "source")
    Source().run(store, 0)
    return store


def test_parts_are_made_once(store):
    stage = double()
    stage.run(store, 0)
    assert stage.made == ["0", "1", "2", "3"]
    (store.root / "double" / "2.jsonl").unlink()
    (store.root / "double" / "rank-0-of-1.json").unlink()
    stage.run(store, 0)
    assert stage.made[4:] == ["2"]
    assert store.report("double")["counts"] == {"documents": 12}
    stage.run(store, 0)
    assert len(stage.made) == 5


def test_documents_are_concurrent_within_the_window_and_stay_in_order(store):
    double().run(store, 0)
    stage = Slow()
    stage.run(store, 0)
    assert stage.most == 5
    assert [row["id"] for part in store.parts("slow") for row in store.read("slow", part)] == sorted(stage.asked)
    report = store.report("slow")
    assert report["counts"] == {"asked": 8, "documents": 12, "dropped: odd": 4}
    assert report["requests"] == 12


def test_what_was_done_before_a_failure_is_kept(store):
    double().run(store, 0)
    with pytest.raises(RuntimeError, match="no server"):
        Slow(fail="30").run(store, 0)
    kept = store.parts("slow")
    assert {"0"} <= set(kept) < {"0", "1", "2", "3"}
    again = Slow()
    again.run(store, 0)
    assert {name[0] for name in again.asked} == {"0", "1", "2", "3"} - set(kept)
    assert store.report("slow")["counts"]["documents"] == 12


def test_whole_stages_wait_for_all_and_are_done_for_all(tmp_path):
    ranks = [Store(tmp_path, "source", Shard(rank, 2)) for rank in range(2)]
    Source().run(Store(tmp_path, "source"), 0)
    for store in ranks:
        store.finish("source", {})
    for store in ranks[:1]:
        double().run(store, 0)
        Slow().run(store, 0)
    with pytest.raises(StoreError, match="ranks 1 of 2 have not finished"):
        Whole().run(ranks[0], 0.01)
    double().run(ranks[1], 0)
    Slow().run(ranks[1], 0)
    with pytest.raises(StoreError, match="stage whole: ranks 0 of 2 have not finished"):
        Whole().run(ranks[1], 0.01)
    Whole().run(ranks[0], 10)
    Whole().run(ranks[1], 0)
    assert ranks[1].report("whole")["counts"] == {"asked": 8, "documents": 8}


def test_stages_before_must_be_there(store):
    with pytest.raises(
        StoreError, match=r"stage slow needs the output of stage double, which is missing in .*; run double first"
    ):
        Slow().run(store, 0)
    store.begin("double", {})
    with pytest.raises(StoreError, match="double, which has not finished; run double first"):
        Slow().run(store, 0)


def test_a_change_before_is_a_change_after(store):
    double().run(store, 0)
    Slow().run(store, 0)
    store.remove(["double"])
    changed = double()
    changed.settings = lambda: {"factor": 3}
    changed.run(store, 0)
    with pytest.raises(StoreError, match="slow was made with inputs"):
        Slow().run(store, 0)


class Dropping(WithoutOptions, PartStage):
    """Drops every document whose n is `number`; its rows say of which stages it was given rows."""

    def __init__(self, name, after, number, wanted=True):
        self.name, self.after, self.number, self.is_wanted = name, after, number, wanted

    def is_enabled(self):
        return self.is_wanted

    def settings(self):
        return {"wanted": self.is_wanted}

    def rows(self, store, part, documents):
        for document in documents:
            name, n = document["source"]["id"], document["source"]["n"]
            yield dropped_row(name, "number") if n == self.number else {"id": name, "given": list(document)}


@pytest.mark.parametrize(
    ("wanted", "given", "left"),
    [
        ((True, True), ["source", "first", "second"], ["02"]),
        ((True, False), ["source", "first"], ["01", "02"]),
        ((False, True), ["source", "second"], ["00", "02"]),
        ((False, False), ["source"], ["00", "01", "02"]),
    ],
)
def test_stages_that_nobody_wants_have_no_say_in_what_comes_after(store, wanted, given, left):
    first = Dropping("first", ("source",), 0, wanted[0])
    second = Dropping("second", ("source", "first"), 1, wanted[1])
    last = Dropping("last", ("source", "first", "second"), None)
    for stage in (first, second, last):
        stage.run(store, 0)
        assert len(store.parts(stage.name)) == (4 if stage.is_enabled() else 0)
    rows = list(store.read("last", "0"))
    assert [row["id"] for row in rows] == left
    assert all(row["given"] == given for row in rows)


def test_a_stage_may_be_wanted_later(store):
    Dropping("first", ("source",), 0, False).run(store, 0)
    Dropping("first", ("source",), 0).run(store, 0)
    assert store.report("first")["counts"]["dropped: number"] == 4
    assert store.without_skipped(["source", "first"]) == ["source", "first"]


def test_a_stage_has_to_say_how_it_is_built_from_a_configuration():
    class Incomplete(PartStage):
        settings, rows = Double.settings, Double.rows

    with pytest.raises(TypeError, match="from_config"):
        Incomplete()
