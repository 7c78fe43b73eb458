"""Over the corpus, tasks come out balanced by their weights, as far as there are documents that suit them."""

import random
from array import array
from collections import Counter

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.multitask.assign import AssignOptions, AssignStage, assign_tasks
from data_gen.multitask.computed_tasks import ABILITIES
from data_gen.multitask.pipeline import MULTITASK
from data_gen.store import Store

TASKS = list(ABILITIES)
ALL = (1 << len(TASKS)) - 1


def bits(*tasks):
    return sum(1 << TASKS.index(task) for task in tasks)


def assign(suited, **options):
    """The tasks of each document, and how many there are of each."""
    wanted = AssignOptions(**options)
    keys = random.Random(0).sample(range(1 << 31), len(suited))
    tasks = [order[: wanted.per_document] for order in assign_tasks(array("I", suited), array("I", keys), wanted)]
    return tasks, Counter(task for order in tasks for task in order)


@pytest.mark.parametrize(
    ("suited", "options", "expected"),
    [
        ([ALL] * 50, {}, dict.fromkeys(TASKS, 20)),
        ([ALL] * 50, {"per_document": 1}, dict.fromkeys(TASKS, 5)),
        ([ALL] * 11, {"per_document": 1, "weights": {"ordering": 2}}, dict.fromkeys(TASKS, 1) | {"ordering": 2}),
        # a rare pool is used up, the others share the rest
        ([bits("table", "qa", "math")] * 6 + [bits("qa", "math")] * 94, {"per_document": 1},
         {"table": 6, "qa": 47, "math": 47}),
        # what suits one task only comes first, and the others make up for it
        ([bits("qa", "math")] * 50 + [bits("qa")] * 30, {"per_document": 1}, {"qa": 40, "math": 40}),
        ([bits("qa", "math")] * 10 + [bits("qa")] * 90, {"per_document": 1}, {"qa": 90, "math": 10}),
        # a document that suits fewer tasks than it takes gets them in turn
        ([bits("qa", "math")] * 10, {"per_document": 5, "weights": {"qa": 9}}, {"qa": 30, "math": 20}),
        ([], {}, {}),
    ],
)  # fmt: skip
def test_tasks_are_balanced_by_weight_as_far_as_documents_suit_them(suited, options, expected):
    assert assign(suited, **options)[1] == expected


@settings(max_examples=60, deadline=None)
@given(
    suited=st.lists(st.integers(1, ALL), max_size=40),
    per_document=st.integers(1, 12),
    weights=st.dictionaries(st.sampled_from(TASKS), st.floats(0.01, 100)),
    seed=st.integers(0, 99),
)
def test_whatever_the_pools(suited, per_document, weights, seed):
    options = {"per_document": per_document, "weights": weights}
    tasks, counts = assign(suited, **options)
    assert counts.total() == len(suited) * per_document
    for mask, order in zip(suited, tasks, strict=True):
        mine = {task for task in TASKS if mask & bits(task)}
        assert set(order) <= mine
        times = Counter(order)
        assert max(times.values()) - min(times[task] for task in mine) <= 1  # none twice before all once
    places = random.Random(seed).sample(range(len(suited)), len(suited))
    keys = random.Random(0).sample(range(1 << 31), len(suited))
    turned = assign_tasks(
        array("I", [suited[place] for place in places]),
        array("I", [keys[place] for place in places]),
        AssignOptions(**options),
    )
    assert [order[:per_document] for order in turned] == [
        tasks[place] for place in places
    ]  # in whatever order they come


def pooled(root, parts):
    """A store whose stage pool has these parts of (id, pools)."""
    store = Store(root, "pool")
    store.begin("pool", {})
    counts = Counter()
    for name, rows in parts.items():
        found = [{"id": row, "pools": pools} if pools else {"id": row, "drop": "no_pool"} for row, pools in rows]
        counts += store.write("pool", name, found)
    store.finish("pool", counts)
    return store


def made(store, **options):
    AssignStage(AssignOptions(**options), 3).run(store, 1.0)
    return [row for part in store.parts("assign") for row in store.read("assign", part)]


def test_the_rows_say_what_a_document_is_asked_and_what_else_suits_it(tmp_path):
    draw = random.Random(1)
    rows = [(f"d{n}", draw.sample(TASKS, draw.randrange(11))) for n in range(60)]
    found = made(pooled(tmp_path / "one", {"000000": rows[:25], "000001": rows[25:]}))
    kept = {row: set(pools) for row, pools in rows if pools}
    assert [row["id"] for row in found] == list(kept)
    for row in found:
        assert {*row["tasks"], *row["spare"]} == kept[row["id"]]
        assert len(row["tasks"]) == 4
        assert not set(row["tasks"]) & set(row["spare"])
        assert row["counts"] == Counter(row["tasks"])

    draw.shuffle(rows)  # other files, other parts, another order
    again = made(pooled(tmp_path / "other", {"000000": rows[:50], "000001": rows[50:]}))
    assert {row["id"]: row["tasks"] for row in again} == {row["id"]: row["tasks"] for row in found}
    seeded = pooled(tmp_path / "seed", {"000000": rows})
    AssignStage(AssignOptions(), 4).run(seeded, 1.0)
    assert {row["id"]: row["tasks"] for row in seeded.read("assign", "000000")} != {r["id"]: r["tasks"] for r in found}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"per_document": 0}, "assign.per_document = 0: expected a whole number of at least 1"),
        ({"weights": {"qa": 0}}, "assign.weights.qa = 0: expected a number above 0"),
        ({"weights": {"quiz": 1}}, r"assign.weights = \['quiz'\]: unknown tasks. Fix: use some of retrieval, qa"),
        ({"pools": {"tables": {"meta.x": ["y"]}}}, r"assign.pools = \['tables'\]: unknown tasks. Fix: use some of"),
        (
            {"pools": {"table": {"meta.x": "y"}}},
            r"pools.table.meta.x = 'y': expected a list of strings. Fix: write .*=\['y'\]",
        ),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        AssignOptions.from_dict(wrong, "assign.")


def test_options_from_a_file_and_the_command_line(tmp_path):
    rules = {"table": {"meta.category": ["finance", "law"], "bucket": ["8192-16384"]}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"assign": {"weights": {"ordering": 2, "qa": 1}, "pools": rules}}))
    options = MULTITASK.config.load(tmp_path / "c.yaml", ["assign.weights.qa=0.5"]).assign
    assert options.weights == {"ordering": 2, "qa": 0.5}
    assert options.pools == {"table": {"meta.category": ("finance", "law"), "bucket": ("8192-16384",)}}
