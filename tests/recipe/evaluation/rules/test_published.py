"""Published rules agree with the code that they were published as, quirks included."""

import time
from difflib import SequenceMatcher

import pytest

from recipe.longrl.evaluation.records import Row
from recipe.longrl.evaluation.rules import (
    aa_lcr,
    corpusqa,
    cover_match,
    docmath,
    letters,
    longbench_pro,
    ruler,
    sequence_ratio,
    squad_f1,
    two_way,
)


def make_row(gold, prompt="Read the text.\nQuestion: Which one?", **meta):
    return Row("r1", ({"role": "user", "content": prompt},), gold, 64, meta=meta)


@pytest.mark.parametrize(
    ("text", "golds", "share"),
    [
        ("The numbers are 1234567 and 7654321.", ["1234567", "7654321"], 1),
        ("1234567", ["1234567", "7654321"], 0.5),
        ("NORTH", ["no"], 1),
        ("12345678", ["1234567"], 1),
        ("New\x00York", ["New\nYork"], 1),
        ("", ["x"], 0),
    ],
)
def test_ruler(text, golds, share):
    assert ruler.match_all(text, make_row(golds)).score == share
    assert ruler.match_part(text, make_row(golds)).score == (share > 0)


# Computed with lm-eval 0.4.13, lm_eval.tasks.longbench.metrics.qa_f1_score.
F1_VECTORS = [
    ("Paris", "Paris", 1),
    ("The answer is Paris.", "Paris", 0.5),
    ("2-3", "23", 1),
    ("café", "cafe", 0),
    ("the", "the", 0),
    ("", "x", 0),
    ("the cat sat on the mat", "a cat on a mat", 0.8571),
    ("New York City, New York", "New York", 0.5714),
    ("unanswerable", "Unanswerable.", 1),
    ("It's 1,000 men", "1000 men", 0.8),
    ("1979 and 1984", "1984 and 1979 and 1990", 0.75),
]


@pytest.mark.parametrize(("text", "gold", "value"), F1_VECTORS)
def test_squad_f1_is_lm_evals(text, gold, value):
    assert squad_f1.squad_f1(text, make_row([gold])).score == pytest.approx(value, abs=5e-5)


def test_squad_f1_takes_the_best_gold_after_the_reasoning():
    assert squad_f1.squad_f1("Rome, Rome, Rome</think>Paris", make_row(["Rome", "Paris"])).score == 1


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The correct answer is (B)", "B"),
        ("The correct answer is B.", "B"),
        ("**The correct answer is (C)**", "C"),
        ("The correct answer is D. No: The correct answer is (A)", "A"),
        ("The correct answer is (A). The correct answer is (B)", "A"),
        ("the correct answer is (B)", ""),
        ("The correct answer is (E)", ""),
        ("The correct answer is Bob", "B"),
        ("B", ""),
    ],
)
def test_longbench_v2(text, letter):
    for key in "ABCD":
        assert letters.longbench_v2_official(text, make_row(key)).score == (letter == key)
        compensated = letters.longbench_v2_compensated(text, make_row(key)).score
        assert compensated == (float(letter == key) if letter else 0.25)


def test_longreason_as_longrlvr_scored_it():
    assert letters.longreason_published("A is wrong</think><CHUNK_3>", make_row("C")).score == 1
    assert letters.longreason_published("A</think>B", make_row("A")).score == 0


# The ratios were computed on an excerpt of 1,800 characters; shuffled words show the effect of autojunk.
ESSAY = " ".join(f"word{i % 37} then{i % 11} follows{i}" for i in range(90))[:1800]


@pytest.mark.parametrize(
    ("response", "ratio"),
    [(ESSAY, 1), (ESSAY[:900], 2 / 3), (ESSAY * 2, 2 / 3), ("", 0), (ESSAY.upper(), None), (ESSAY[::-1], None)],
)
def test_mrcr_is_difflibs_ratio(response, ratio):
    row = make_row("k3jd8fhs2a" + ESSAY, random_string_to_prepend="k3jd8fhs2a")
    outcome = sequence_ratio.mrcr_official("k3jd8fhs2a" + response, row)
    assert outcome.score == SequenceMatcher(None, response, ESSAY).ratio()
    assert outcome.parts == {"prefix": 1}
    if ratio is not None:
        assert outcome.score == pytest.approx(ratio, abs=1e-4)


def test_mrcr_depends_on_autojunk_and_the_order_of_arguments():
    shuffled = " ".join(sorted(ESSAY.split(), key=lambda word: word[::-1]))
    ratio = sequence_ratio.sequence_ratio(shuffled, ESSAY)
    assert ratio == SequenceMatcher(None, shuffled, ESSAY).ratio()
    assert ratio < SequenceMatcher(None, shuffled, ESSAY, autojunk=False).ratio()


def test_mrcr_needs_the_prefix_and_skips_reasoning():
    row = make_row("k3jd8fhs2aHello", random_string_to_prepend="k3jd8fhs2a")
    assert sequence_ratio.mrcr_official("Hello", row) == (0, "Hello", {"prefix": 0})
    assert sequence_ratio.mrcr_official("k3jd8fhs2a?</think>\n\nk3jd8fhs2aHello", row).score == 1
    with pytest.raises(ValueError, match=r"row 'r1': meta\.random_string_to_prepend = None"):
        sequence_ratio.mrcr_official("x", make_row("Hello"))


def test_mrcr_is_bounded():
    answer = (ESSAY * 40)[:60_000]
    started = time.process_time()
    ratio = sequence_ratio.sequence_ratio(answer[::-1] * 100, answer)
    assert time.process_time() - started < 20
    assert 0 <= ratio < 0.1


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("It was the 1,000 men of Paris", "1000 men", True),
        ("In 2019", "2", False),
        ("Rome, Paris or Athens", "Paris", True),
        ("<think>Paris</think>Rome", "Paris", False),
        ("Paris<think>so</think> then", "Paris", True),
        ("Paris</think>Rome", "Paris", False),
        ("an apple", "the", False),
        ("ﬁre", "fire", True),
    ],
)
def test_cover_match(text, gold, right):
    assert cover_match.cover_match(text, make_row(gold)).score == right


# Computed with utils/evaluation_utils.py of yale-nlp/DocMath-Eval.
DOCMATH_VECTORS = [
    ("31", 31, True),
    ("-31", 31, True),
    ("310,000", 31, True),
    ("0.0004", 0.0001, True),
    ("31.04", 31, True),
    ("31.05", 31, False),
    ("5%", 0.05, True),
    ("0.05", 5.002, True),
    ("$1,234.5 million", 1234.5, True),
    ("12 = 5 + 7 = 12", 12, True),
    ("15 - 3", 12, True),
    ("3 x 10^2", 300, True),
    ("approximately 31", 31, True),
    ("31 or 32", 31, True),
    ("garbage", 0, True),
    ("garbage", 31, False),
    ("[31, 32]", 31, False),
    ("(a)", 0, False),
    ("yes", True, True),
    ("False", True, False),
    ("1", True, True),
    ("1e999", 31, False),
]


@pytest.mark.parametrize(("text", "gold", "right"), DOCMATH_VECTORS)
def test_docmath(text, gold, right):
    assert docmath.published_match(text, gold) == right
    said = f"7?</think>Therefore, **the answer is {text}**."
    assert docmath.docmath_published(said, make_row(gold)).score == right


@pytest.mark.parametrize("text", ["9**9**9**9", "__import__('os').getpid()", "(" * 5000, "9" * 100_000, "1 " * 100_000])
def test_docmath_evaluates_arithmetic_only_and_quickly(text):
    started = time.process_time()
    assert docmath.published_match(text, 31) is False
    assert time.process_time() - started < 1


def test_corpusqa_shows_the_judge_the_first_line():
    assert corpusqa.published_answer("I think. The answer is: A\nB. The answer is: C") == "A"
    assert corpusqa.published_answer(" none ") == "none"


ORDER = "T2.1 Global Timeline Reconstruction"


@pytest.mark.parametrize(
    ("task", "lines", "value"),
    [
        ("T1.1", "a\nb\nc\nd\ne", 1),
        ("T1.1", "e\nd\nc\nb\na", 0.7222),
        ("T1.1", "a", 0.4868),
        ("T1.1", "a\nb\nc\nd\ne\nx\ny", 1),
        (ORDER, "a\nb", 1),
        (ORDER, "a\nb\nc\ne\nd", 0.9),
        ("T3.2", "A \nb", 1),
        ("T3.2", "b\na", 0),
        ("T5.1", "a\nb\nx", 0.5),
        ("T8.2", "a\nb\nc\nd\ne\nx\ny\nz", 1),
        ("T8.2", "a\nb", 0.4),
    ],
)
def test_longbench_pro(task, lines, value):
    row = make_row(list("abcde"), secondary_task=task, language="English")
    text = f"[Answer]\nz</think>So:\n[Answer]\n{lines}"
    assert longbench_pro.longbench_pro_official(text, row).score == pytest.approx(value, abs=5e-5)


def test_longbench_pro_names_a_wrong_task():
    with pytest.raises(ValueError, match=r"row 'r1': .*'T99'"):
        longbench_pro.longbench_pro_official("x", make_row(["a"], secondary_task="T99"))


def test_two_way_as_published():
    assert two_way.two_way_published(r"</think>\boxed{the}", make_row(["Paris"])).score == 1
    assert two_way.two_way_published(r"\boxed{Paris}", make_row(["Paris"])).score == 0


def test_aa_lcr_has_no_verdict_in_a_sentence():
    assert aa_lcr.read_verdict("CORRECT?</think>\nINCORRECT") is False
    assert aa_lcr.read_verdict("CORRECT or INCORRECT") is None
