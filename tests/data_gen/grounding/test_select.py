"""Best of each cluster, best of the document, and a reason for every other candidate."""

import json

import pytest

from data_gen.grounding.prompts import CRITERIA
from data_gen.grounding.select import SelectOptions, SelectStage, finalists, right_share
from data_gen.store import count_row

RIGHT, WRONG, LOST = {"correct": True}, {"correct": False}, {"correct": None}


def document(*scores, closed=(WRONG,), read=(RIGHT, WRONG), criterion=9.0):
    """Two candidates for each cluster, in order, with these scores; the same answers to all."""
    which = [{"cluster": i // 2, "candidate": i % 2} for i in range(len(scores))]
    text = {"question": "What is it, and where?", "answer": "a", "evidence": [0, 1], "explanation": "e"}
    rated = dict.fromkeys(CRITERIA, criterion)
    answers = {"closed_book": {"m": list(closed)}, "with_document": {"m": list(read)}}
    return {
        "generate": {"id": "d", "candidates": [{**w, "status": "ok", **text} for w in which]},
        "judge": {"id": "d", "ratings": [{**w, "score": s, **rated} for w, s in zip(which, scores, strict=True)]},
        "answer": {"id": "d", "answers": [{**w, **answers} for w in which]},
    }


def select(row, benchmarks=(), **options):
    stage = SelectStage(SelectOptions(**options), benchmarks)
    stage.open(None)
    return next(iter(stage.rows(None, "0", [row])))


def test_the_best_is_taken_and_all_others_are_accounted_for():
    row = select(document(9.5, 9.2, 8.0, 9.8, 5.0, None))
    assert (row["cluster"], row["candidate"], row["score"], row["pass_rate"], row["closed_book"]) == (
        1,
        1,
        9.8,
        0.5,
        0.0,
    )
    assert {key: n for key, n in count_row(row).items() if n} == {
        "documents": 1,
        "candidates below_threshold": 2,
        "candidates not_best_of_cluster": 1,
        "candidates not_best_of_document": 1,
        "candidates selected": 1,
    }


def test_of_equals_the_first():
    assert [(f["cluster"], f["candidate"]) for f in finalists(document(9.0, 9.0, 9.0, 9.0), SelectOptions())] == [
        (0, 0),
        (1, 0),
    ]
    row = select(document(9.0, 9.0, 9.0, 9.0))
    assert (row["cluster"], row["candidate"]) == (0, 0)


@pytest.mark.parametrize(
    ("given", "options", "reason"),
    [
        ({}, {"threshold": 9.6}, "below_threshold"),
        ({"criterion": 6.0}, {"min_criterion": 7.0}, "below_threshold"),
        ({"closed": (WRONG, RIGHT)}, {}, "answerable_closed_book"),
        ({"closed": (WRONG, RIGHT)}, {"max_closed_book": 0.5}, None),
        ({"read": (RIGHT, RIGHT)}, {}, "too_easy"),
        ({"read": (RIGHT, RIGHT)}, {"max_pass_rate": 1.0}, None),
        ({"read": (WRONG, WRONG)}, {}, None),
        ({"read": (WRONG, WRONG)}, {"min_pass_rate": 0.25}, "too_hard"),
        ({"read": (LOST, LOST)}, {}, "ungraded"),
        ({"read": (LOST, WRONG)}, {}, None),
        ({"closed": (LOST,)}, {}, "ungraded"),
        ({"closed": (), "read": ()}, {}, None),
    ],
)
def test_reasons(given, options, reason):
    assert select(document(9.5, 9.0, **given), **options).get("drop") == reason


def test_benchmark_questions_are_out(tmp_path):
    file = tmp_path / "bench.jsonl"
    file.write_text(json.dumps({"question": "What is it? And where!"}))
    assert select(document(9.5, 9.0), (file,))["drop"] == "contaminated"
    file.write_text(json.dumps({"question": "What is it? And when!"}))
    assert "drop" not in select(document(9.5, 9.0), (file,))


def test_shares():
    samples = {"a": [RIGHT, WRONG, LOST], "b": [WRONG, WRONG]}
    assert right_share(samples, of_best_server=True) == 0.5
    assert right_share(samples, of_best_server=False) == 0.25
    assert right_share({"a": [LOST]}, of_best_server=True) is None
    assert right_share({"a": []}, of_best_server=False) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 11.0}, r"select.threshold = 11.0: expected a number of at least 0 and at most 10"),
        ({"max_pass_rate": 1.5}, r"select.max_pass_rate = 1.5: expected a number"),
        ({"min_pass_rate": 0.95}, r"select.min_pass_rate = 0.95: expected at most max_pass_rate, 0.9"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        SelectOptions.from_dict(options, "select.")
