"""Documents are in the pools whose tasks have something to ask of them, and rules on metadata come first."""

import pytest
from support import planted_fact_docs, synthetic_books

from data_gen.multitask.compose import TaskComposeOptions
from data_gen.multitask.document_features import extract_features
from data_gen.multitask.pool import COMPUTED, WRITTEN, PoolStage

COMPOSE = TaskComposeOptions(passage_words=40, min_passages=12)
CHRONICLE = synthetic_books.document(0, 60)
ASKED_OF_SENTENCES = {"retrieval", "matching", "ordering"}


def lines(text, count=60):
    return "\n\n".join(text.format(n=n) for n in range(count))


TALK = lines("“and what is it of,” said the clerk to him, “and is it in the mill {n} of the weir, as it was and is?”")
ITEMS = lines("- the {n} of it\n- to the {n} and in it", 300)
NAMELESS = lines("It was of no weight to anybody in house {n} that the mill was at the weir, and that it stood still.")
ROWS = lines("of the 18{n:02} and to | in the {n} | it is", 99)


@pytest.mark.parametrize(
    ("text", "names", "years", "quotes", "prose", "speech"),
    [
        (CHRONICLE, range(7, 10), range(6, 7), range(20, 25), 0.95, 0.2),
        (planted_fact_docs.document(0)[0], range(5, 13), range(1), range(12, 25), 0.95, 0.0),
        (TALK, range(1), range(1), range(1), 0.95, 1.0),
        (ITEMS, range(1), range(1), range(1), 0.0, 0.0),
        (NAMELESS, range(1), range(1), range(20, 25), 0.95, 0.0),
        (ROWS, range(1), range(99, 100), range(1), 0.0, 0.0),
        ("", range(1), range(1), range(1), 0.0, 0.0),
    ],
)
def test_features(text, names, years, quotes, prose, speech):
    found = extract_features([passage for passage in text.split("\n\n") if passage])
    assert found.names in names
    assert found.years in years
    assert found.quotes in quotes
    assert prose <= found.prose <= prose + 0.05
    assert speech - 0.2 <= found.speech <= speech


def row(text, computed=tuple(COMPUTED), written=(), rules=None, **more):
    stage = PoolStage([task for task in computed if task not in written], written, rules or {}, COMPOSE)
    (made,) = stage.rows(None, "0", [{"ingest": {"id": "d", "text": text, **more}}])
    return made


@pytest.mark.parametrize(
    ("text", "written", "why_not"),
    [
        (CHRONICLE, (), {}),
        (CHRONICLE, tuple(WRITTEN), {}),
        (TALK, tuple(WRITTEN), dict.fromkeys(ASKED_OF_SENTENCES, "few_quotes")
         | dict.fromkeys(("ranking", "exhaustive", "math", "table"), "few_names") | {"summary": "dialogue"}),
        (NAMELESS, (), dict.fromkeys(("qa", "ranking", "exhaustive", "math", "table"), "few_names")),
        (ROWS, tuple(WRITTEN), dict.fromkeys(ASKED_OF_SENTENCES, "few_quotes") | {"ranking": "few_names"}
         | dict.fromkeys(WRITTEN, "little_prose")),
    ],
)  # fmt: skip
def test_a_document_is_in_the_pools_of_the_tasks_that_suit_it(text, written, why_not):
    made = row(text, written=written)
    tasks = {*COMPUTED, *written}
    assert made["why_not"] == why_not
    assert set(made["pools"]) == tasks - set(why_not)
    assert len(made["pools"]) == len(tasks) - len(why_not)
    assert made["counts"] == {**dict.fromkeys(made["pools"], 1), **{f"{t}: {r}": 1 for t, r in why_not.items()}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Der Rat der Stadt hat im Jahr das alte Tor und die Mühle an den Sohn verkauft. " * 40, "not_english"),
        (CHRONICLE + "\n\nPassage 3:\nNothing.", "looks_numbered"),
        (CHRONICLE[:1500], "too_short"),
        (ITEMS, "no_pool"),
    ],
)
def test_what_can_be_asked_nothing_is_dropped(text, reason):
    assert row(text, written=tuple(WRITTEN))["drop"] == reason


RULES = {
    "table": {"meta.category": ("finance", "law")},
    "math": {"meta.category": ("finance",), "bucket": ("8192-16384",)},
    "summary": {"meta.tags": ("report",)},
    "qa": {"meta.year": ("1999",)},
}


@pytest.mark.parametrize(
    ("meta", "pools"),
    [
        ({"category": "law"}, {"table"}),
        ({"category": "finance"}, {"table", "math"}),
        ({"category": "finance", "tags": ["long", "report"]}, {"table", "math", "summary"}),
        ({"year": 1999}, {"qa"}),
        ({"category": "fiction"}, {*COMPUTED, *WRITTEN}),
        ({"category": {"finance": 1}}, {*COMPUTED, *WRITTEN}),
        ({}, {*COMPUTED, *WRITTEN}),
    ],
)
def test_a_document_of_which_rules_speak_goes_to_their_pools_only(meta, pools):
    made = row(CHRONICLE, written=tuple(WRITTEN), rules=RULES, meta=meta, bucket="8192-16384")
    assert set(made["pools"]) == pools
    assert set(made["why_not"].values()) <= {"other_pools"}
    by_rule = {key.removesuffix(": by rule") for key in made["counts"] if key.endswith(": by rule")}
    assert by_rule == (pools if made["why_not"] else set())


def test_a_rule_makes_no_task_of_what_does_not_suit_it():
    made = row(NAMELESS, rules=RULES, meta={"category": "finance"}, bucket="8192-16384")
    assert (made["drop"], made["why_not"]["table"]) == ("no_pool", "few_names")
