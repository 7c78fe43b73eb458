"""A judge is measured on rows whose verdict is known."""

import json
import re

import pytest
from support import fake_judge

from recipe.longrl.evaluation.__main__ import app
from recipe.longrl.evaluation.judge.labelled import compare_with_labels

ROWS = [
    {"question": "Capital of Italy?", "reference": "Rome", "candidate": "Rome", "label": True},
    {"question": "Capital of Italy?", "reference": "Rome", "candidate": "Not Rome", "label": False},
    {"question": "Capital of Peru?", "reference": "Lima", "candidate": "Quito", "label": False},
    {"question": "Capital of Mali?", "reference": "Bamako", "candidate": "It is Bamako.", "label": True},
]


@pytest.fixture
def labelled(tmp_path):
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


@pytest.fixture
def measure_judge(judge, capsys):
    def run(file, *overrides):
        with pytest.raises(SystemExit) as ended:
            app(["judge", str(file), f"judge.servers={judge.url}", "judge.window=8192", *overrides])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def test_accuracy_and_kappa(measure_judge, judge, labelled):
    status, printed, _ = measure_judge(labelled)
    assert status == 0
    # Accuracy 3 of 4 with Wilson's interval; kappa (0.75 - 0.5) / (1 - 0.5).
    assert re.search(
        r"\| judged by judge \(\w{6}\) \| 4 \| 75.00 \[30.06, 95.44\] \| 0.500 \| 0 \| 1 \| 0 \| 0 \|", printed
    )
    assert len(judge.bodies) == 4
    measure_judge(labelled)
    assert len(judge.bodies) == 4


def test_undecided_and_missing_replies_are_in_the_denominator(measure_judge, judge, labelled):
    judge.behave = lambda body, n: "Well." if "Quito" in fake_judge.read_question(body)[2] else 0.0
    assert "| 4 | 50.00 [15.00, 85.00] |" in measure_judge(labelled)[1]


@pytest.mark.parametrize(
    ("labels", "verdicts", "kappa"),
    [
        # Cohen (1960) by hand: observed 0.7, expected 0.5.
        ([True] * 5 + [False] * 5, ["right"] * 4 + ["wrong"] * 4 + ["right"] * 2, 0.4),
        ([True, False], ["right", "wrong"], 1.0),
        ([True, False], ["wrong", "right"], -1.0),
    ],
)
def test_agreement_with_labels(labels, verdicts, kappa):
    result = compare_with_labels(labels, verdicts)
    assert result["kappa"] == pytest.approx(kappa)
    wrong = result["right_called_wrong"] + result["wrong_called_right"]
    assert wrong == pytest.approx(len(labels) * (1 - result["mean"]))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": "yes"}, "label = 'yes': expected true or false. Fix: correct the row"),
        ({"candidate": None}, "candidate = None: expected a text. Fix: correct the row"),
    ],
)
def test_a_wrong_row_is_named(measure_judge, judge, tmp_path, change, problem):
    file = tmp_path / "wrong.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1] | change) + "\n")
    status, _, printed = measure_judge(file)
    assert (status, judge.bodies) == (2, [])
    assert f"{file}: line 2: {problem}" in printed
