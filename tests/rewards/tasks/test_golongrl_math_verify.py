"""Numbers in a sentence or in a box, and the published search of the last 500 characters."""

import asyncio
import random
import re

import pytest
from math_verify import parser
from support.reward_cases import load_rows
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, score, score_async
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer

ROWS = load_rows("golongrl_math_verify")
PUBLISHED = RewardOptions(paper_exact=True)


@pytest.mark.parametrize(
    ("kind", "case"), ROWS, ids=lambda value: repr(value["text"]) if isinstance(value, dict) else value
)
def test_table(kind, case):
    result = score("golongrl_math", f"\\boxed{{34}} The answer is 34</think>{case['text']}", case["gold"])
    assert result.value == (kind == "correct")
    assert result.status == ("format_error" if kind == "malformed" else "ok")
    assert result.parts == ({} if kind == "malformed" else {"answer": result.value, "format": 1.0})
    assert tuple(result.metrics()) == METRIC_KEYS


def test_a_long_box_is_read_whole():
    terms = " + ".join(f"x_{{{i}}}" for i in range(1, 80))
    response = f"so</think>\\boxed{{{terms}}}"
    assert len(response) > 600
    assert score("golongrl_math", response, terms).value == 1
    assert score("golongrl_math", response, terms, options=PUBLISHED).value == 0


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("x</think>\\boxed{34}", 1),
        ("x</think>The total is 34", 1),
        ("so 34</think>I am done.", 1),  # the reasoning counts
        ("x</think>35", 0),
        ("\\boxed{34}", 0),  # the gate
        ("x</think>\\boxed{34}</think>", 0),
        ("x</think>Done.", 0),
    ],
)
def test_as_published(response, value):
    assert score("golongrl_math", response, {"golden_label": "34", "doc_ids": []}, options=PUBLISHED).value == value


@pytest.mark.parametrize("gold", ["", "?", [], [""], None, {"a": 1}, {"golden_label": None, "doc_ids": []}])
@pytest.mark.parametrize("paper_exact", [False, True])
def test_a_row_without_an_answer_is_the_rows_fault(gold, paper_exact):
    result = score("golongrl_math", "x</think>\\boxed{3}", gold, options=RewardOptions(paper_exact=paper_exact))
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ground_truth" in result.reason


def test_in_a_thread_and_in_a_killable_process():
    """The published timeouts raise in threads, which made every score 0."""
    for options in (RewardOptions(workers=1, timeout_s=60), RewardOptions(workers=1, timeout_s=60, paper_exact=True)):
        job = ("math_longcot_math_verify", "x</think>\\boxed{\\frac12}", {"golden_label": "0.5", "doc_ids": []})
        assert asyncio.run(asyncio.to_thread(score, *job, options=options)).value == 1
        with IsolatedScorer(options) as isolation:
            assert asyncio.run(score_async(*job, options=options, isolation=isolation)).value == 1


def test_text_with_names_is_never_evaluated():
    """math-verify evaluates only matches of its pattern of plain sums, not the text around them."""
    pieces = [*"1()+*-/^. \n\u0660=,%_x'\\[{·", "answer is ", "2e5", "lambda:0", "os.system", "__import__('os')"]
    draw = random.Random(0)
    texts = ["answer is " + "".join(draw.choices(pieces, k=9)) for _ in range(20000)]
    patterns = [pattern for pattern, _ in parser.lazy_expr_regex(parser.ExprExtractionConfig())]
    found = [m.groupdict().get("expr") or "" for pattern in patterns for text in texts if (m := pattern.search(text))]
    assert len({*found}) > 50
    assert not [text for text in found if not re.fullmatch(r"[\d\s.()+\-*×/÷^]*", text)]
