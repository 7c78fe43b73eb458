"""Strict rules: gold answers earn 1, empty ones 0, and no trick earns anything."""

import doctest
import importlib
import pkgutil
import time
from collections import Counter

import pytest

from recipe.longrl.evaluation import rules
from recipe.longrl.evaluation.records import Row
from recipe.longrl.evaluation.rules.aa_lcr import aa_lcr_strict
from recipe.longrl.evaluation.rules.corpusqa import corpusqa_strict
from recipe.longrl.evaluation.rules.cover_match import cover_match_strict
from recipe.longrl.evaluation.rules.docmath import docmath_strict
from recipe.longrl.evaluation.rules.grounding import cited_f2, cited_f2_strict
from recipe.longrl.evaluation.rules.letters import longbench_v2_strict, longreason_strict, options_of
from recipe.longrl.evaluation.rules.longbench_pro import longbench_pro_strict
from recipe.longrl.evaluation.rules.ruler import match_all_strict, match_part_strict
from recipe.longrl.evaluation.rules.sequence_ratio import mrcr_strict
from recipe.longrl.evaluation.rules.squad_f1 import squad_f1_strict
from recipe.longrl.evaluation.rules.two_way import two_way_strict

MODULES = [module.name for module in pkgutil.iter_modules(rules.__path__)]
DOCUMENT = "Paris and Rome held fairs. A fair in London closed in 1851; its 31 halls cost 4500000 pounds. " * 200
OPTIONS = "Which city?\nA. Rome\nB. Paris\nC. London\nD. Berlin"


def make_row(gold, question="Which city held the fair of 1900?", options=OPTIONS, **fields):
    meta = {"question": question, **fields.pop("meta", {})}
    return Row("r1", ({"role": "user", "content": f"{DOCUMENT}\n{options}"},), gold, 64, meta=meta, **fields)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(f"{rules.__name__}.{name}"))
    assert not result.failed


TEXT = make_row(["Paris"])
NUMBERS = make_row(["1234567", "7654321"], "What are the special magic numbers for old-oak and red-fox?")
UUID = make_row(["0f8fad5b-d9cb-469f-a165-70867728950e"], "What is the special magic uuid for ab12?")
NAMES = make_row(["ABCDE", "FGHIJ", "KLMNO", "PQRST", "UVWXY"], "Find all variables that are assigned the value 12345.")
WORDS = make_row(["apple", "window", "ice cream"], "What are the 3 most common words in the above list?")
LETTER = make_row("B")
NUMBER = make_row(31.0, "How many halls did the fair in London have?")
ITEMS = make_row("['Paris', 'Rome']", "List the cities that held fairs in 1900.")
MESSAGE = "Sing of the tapir, quiet in the rain, who walks the river path and back again. " * 8
COPY = make_row("k3jd8fhs2a" + MESSAGE, meta={"random_string_to_prepend": "k3jd8fhs2a"})
LINES = make_row(["doc 3", "doc 1"], meta={"secondary_task": "T8.2", "language": "English"})
LINE = make_row(["Paris"], meta={"secondary_task": "T3.2", "language": "English"})
EVIDENCE = make_row("Paris", evidence=(3, 7), meta={"num_chunks": 40})

RIGHT = [
    *((rule, TEXT, text) for rule in (match_part_strict, squad_f1_strict, cover_match_strict, aa_lcr_strict)
      for text in (
          "Paris", "paris.", "The answer is Paris.", "Rome?</think>Paris", "<answer>Paris</answer>",
          "Let me see. Rome closed.\nTherefore, the answer is Paris",
          "<useful_chunks><CHUNK_1></useful_chunks>\n<answer> Paris </answer>",
          "**Answer:** Paris", "The fair of 1900 was in Paris.",
      )),
    *((match_all_strict, NUMBERS, text) for text in (
        "1234567, 7654321", "7654321 and 1234567.", "<answer>1234567\n7654321</answer>",
        "The special magic numbers for old-oak and red-fox mentioned in the text are 1. 1234567 and 2. 7654321",
    )),
    (match_all_strict, UUID, "It is 0F8FAD5B-d9cb-469f-a165-70867728950e."),
    (match_all_strict, NAMES, "ABCDE FGHIJ KLMNO PQRST UVWXY"),
    (match_all_strict, NAMES, "VAR ABCDE, VAR FGHIJ, KLMNO, PQRST, UVWXY are assigned 12345"),
    (match_all_strict, WORDS, "1. window 2. apple 3. ice cream"),
    *((rule, LETTER, text) for rule in (longbench_v2_strict, longreason_strict) for text in (
        "B", "(B)", "B. Paris", "The correct answer is (B)", "The correct answer is B, because A is wrong.",
        "A?</think>The correct answer is (A). No. The correct answer is (B)", "<answer>B</answer>", r"\boxed{B}",
        "Think.\nANSWER: B", "Paris", "Reasons first.\n(B)",
    )),
    *((docmath_strict, NUMBER, text) for text in (
        "31", "31.0", "31.04", "Therefore, the answer is 31", "20 + 11 = 31", r"The answer is \boxed{31}",
        "thirty-one", "The answer is 31 halls.", "<answer>$31</answer>",
    )),
    *((corpusqa_strict, ITEMS, text) for text in (
        "The answer is: Rome, Paris", "['Rome', 'Paris']", "The answer is:\n- Rome\n- Paris", "Paris and Rome",
    )),
    (corpusqa_strict, make_row("[]"), "The answer is: []"),
    (corpusqa_strict, make_row("1,234.50"), "The answer is 1234.5"),
    (mrcr_strict, COPY, "k3jd8fhs2a" + MESSAGE),
    (mrcr_strict, COPY, "reasons</think>\nk3jd8fhs2a" + MESSAGE.replace("quiet", "silent", 2)),
    (longbench_pro_strict, LINES, "[Answer]\ndoc 1\ndoc 3"),
    (longbench_pro_strict, LINE, "so</think>[Answer]\nParis"),
    (two_way_strict, TEXT, r"\boxed{Paris}"),
    (cited_f2, EVIDENCE, "<useful_chunks><CHUNK_7><CHUNK_3></useful_chunks>"),
    (cited_f2, EVIDENCE, "<useful_chunks><CHUNK 7>, <CHUNK 3></useful_chunks>"),
    (cited_f2_strict, EVIDENCE, "so</think><useful_chunks><CHUNK_7><CHUNK_3></useful_chunks><answer>x</answer>"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "row", "text"), RIGHT)
def test_right_answers_earn_everything(rule, row, text):
    assert rule(text, row).score == 1


RULES = {(rule, id(row)): (rule, row) for rule, row, _ in RIGHT}.values()


@pytest.mark.parametrize(("rule", "row"), RULES)
@pytest.mark.parametrize("text", ["", " \n", "</think>", "<answer></answer>", "<think>", "\x00", "<answer>", ".", "?"])
def test_empty_answers_earn_nothing(rule, row, text):
    assert rule(text, row).score == 0


def games(gold, others):
    """Answers that try to earn something without saying the gold answer and nothing else."""
    listed = ", ".join([gold, *others])
    return [
        DOCUMENT + gold,
        DOCUMENT.replace("fairs", gold),
        listed,
        f"<answer>{listed}</answer>",
        "\n".join(["<answer>", gold, *others, "</answer>"]),
        f"{gold} or {others[0]}",
        f"Either {gold} or {others[0]}.",
        f"The answer is {others[0]} or {gold}",
        f"not {gold}",
        f"The answer is not {gold}",
        f"It is unclear, maybe {gold}",
        f"<think>{gold}",
        f"<think>The answer is {gold}. Is it",
        f"{gold}</think>{others[0]}",
        f"<answer>{gold}</answer></think>I do not know.",
        f"The answer is {gold}.\nThe answer is {others[0]}.",
        f"<answer>{gold}</answer><answer>{others[0]}</answer>",
        f"<useful_chunks>{gold}</useful_chunks><answer>{others[0]}</answer>",
        f"{gold}{gold}x",
        f"{gold} / {others[0]} / {others[1]}",
        "\n".join([*others, gold]),
        "\n\n".join(f"{i}. {answer}" for i, answer in enumerate([*others, gold], 1)),
    ]


QA_RULES = (match_part_strict, squad_f1_strict, cover_match_strict, aa_lcr_strict, corpusqa_strict)
GAMES = [
    *((rule, TEXT, text) for rule in QA_RULES for text in games("Paris", ["Rome", "London", "Berlin"])),
    *((two_way_strict, TEXT, rf"\boxed{{{text}}}") for text in games("Paris", ["Rome", "London", "Berlin"])
      if "<" not in text),
    *((two_way_strict, TEXT, text) for text in (
        "Paris", r"\boxed{Paris} or \boxed{Rome}", r"\boxed{Paris", r"<think>\boxed{Paris}",
        r"\boxed{Paris}</think>Paris", r"\boxed{}", r"\boxed{the}", r"\boxed{a}", r"\boxed{P}",
    )),
    *((rule, LETTER, text) for rule in (longbench_v2_strict, longreason_strict)
      for text in games("B", ["A", "C", "D"])),
    *((rule, make_row("D"), OPTIONS) for rule in (longbench_v2_strict, longreason_strict)),
    *((docmath_strict, NUMBER, text) for text in games("31", ["32", "45", "7"])),
    *((docmath_strict, NUMBER, text) for text in ("-31", "310000", "0.31", "31 million", "3100", "at least 31",
        "31 ± 31", "31 x 31", "between 31 and 32", "> 31", "0 31")),
    *((docmath_strict, make_row(0.0001), text) for text in ("0.0004", "0", "0.0001 or 0.0002", "0.001")),
    *((match_all_strict, UUID, text) for text in games(UUID.gold[0], [
        "1f8fad5b-d9cb-469f-a165-70867728950e", "2f8fad5b-d9cb-469f-a165-70867728950e",
    ]) if not text.startswith("Paris and")),
    *((match_all_strict, make_row(["1234567"]), text) for text in games("1234567", ["7654321", "1111111"])
      if not text.startswith("Paris and")),
    *((match_all_strict, make_row(["apple"]), text) for text in games("apple", ["window", "river"])),
    *((match_all_strict, NUMBERS, text) for text in (
        " ".join(map(str, range(1_000_000, 1_009_999))) + " 1234567 7654321", "12345678 76543210", "1234567654321",
    )),
    *((mrcr_strict, COPY, text) for text in (
        MESSAGE, "k3jd8fhs2a", "k3jd8fhs2a" + MESSAGE[:300], "k3jd8fhs2a" + MESSAGE * 2, "k3jd8fhs2a" + DOCUMENT,
        "k3jd8fhs2a" + MESSAGE.replace("tapir", "llama").replace("river", "city").replace("quiet", "loud"),
        "k3jd8fhs2a" + MESSAGE.upper(), "k3jd8fhs2a" + MESSAGE[::-1], "k3jd8fhs2a" + DOCUMENT + MESSAGE,
        "k3jd8fhs2a" + " ".join(sorted(MESSAGE.split())), "<think>k3jd8fhs2a" + MESSAGE[:-200], "k3jd8fhs2b" + MESSAGE,
    )),
    *((mrcr_strict, COPY, "k3jd8fhs2a" + text) for text in (
        MESSAGE[len(MESSAGE) // 2 :], " ".join(MESSAGE.split()[::2]), MESSAGE.replace(" ", ""),
        MESSAGE + "k3jd8fhs2a" * 99,
        " ".join(reversed(MESSAGE.split())), " ".join(f"{word} {word}" for word in MESSAGE.split()), "the " * 120,
        "a" * 700,
    )),
    *((longbench_pro_strict, LINES, text) for text in (
        "doc 1\ndoc 3", "[Answer]", "[Answer]\ndoc 1 doc 3", "[Answer]\nnot doc 1", "<think>[Answer]\ndoc 1\ndoc 3",
        "[Answer]\ndoc 1\ndoc 3</think>none", "[Answer]\ndoc 1\ndoc 3\n[Answer]\ndoc 9",
    )),
    *((longbench_pro_strict, LINE, f"[Answer]\n{text}") for text in games("Paris", ["Rome", "London", "Berlin"])),
    *((cited_f2_strict, EVIDENCE, f"{text}<answer>x</answer>") for text in (
        "", "<CHUNK_3><CHUNK_7>", "<useful_chunks><CHUNK_3>", "<CHUNK_3></useful_chunks>",
        "<useful_chunks></useful_chunks>",
        "<useful_chunks>3, 7</useful_chunks>", "<useful_chunks>CHUNK_3</useful_chunks>",
        "<useful_chunks><CHUNK_0-39></useful_chunks>", "<useful_chunks><CHUNK_3,7></useful_chunks>",
        "<useful_chunks><CHUNK_*></useful_chunks>", "<useful_chunks><CHUNK_4><CHUNK_5></useful_chunks>",
        "<useful_chunks><CHUNK_37></useful_chunks>", "<useful_chunks><chunk_3></useful_chunks>",
        "<useful_chunks><CHUNK_3></useful_chunks></think>", "<think><useful_chunks><CHUNK_3></useful_chunks>",
        "<useful_chunks><CHUNK_3></useful_chunks><useful_chunks><CHUNK_7></useful_chunks>",
        "<useful_chunks><CHUNK_3></useful_chunks><answer>y</answer>",
        "<answer><useful_chunks><CHUNK_3></useful_chunks>",
        "<USEFUL_CHUNKS><CHUNK_3></USEFUL_CHUNKS>", "<useful_chunks><CHUNK_-3></useful_chunks>",
    )),
]  # fmt: skip


def test_each_strict_rule_has_twenty_tricks():
    counts = Counter(rule for rule, _, _ in GAMES)
    assert set(counts) == {rule for rule, _, _ in RIGHT} - {cited_f2}
    assert min(counts.values()) >= 20, counts


@pytest.mark.parametrize(("rule", "row", "text"), GAMES)
def test_tricks_earn_nothing(rule, row, text):
    assert rule(text, row).score == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1234567", 0.5),
        ("1234567 and 7777777", 0.5),
        ("1234567, 7654321, 7777777", 0.5),
        ("1234567, 7654321, 7777777, 8888888", 0),
        ("1234567, 1234567, 7654321", 1),
    ],
)
def test_a_value_beyond_the_number_asked_for_cancels_one(text, value):
    assert match_all_strict(text, NUMBERS).score == value


def test_per_cent_is_a_fraction_only_where_the_question_or_the_answer_says_so():
    asked = make_row(5.0, "By how many per cent did it grow?")
    assert [docmath_strict(text, asked).score for text in ("5%", "0.05", "5", "500", "-5%")] == [1, 1, 1, 0, 0]
    assert [docmath_strict(text, make_row(0.05)).score for text in ("5%", "0.05", "5")] == [1, 1, 0]


def test_a_scale_may_be_left_out_where_the_question_names_it():
    asked = make_row(31.5, "What was the cost in millions?")
    assert [docmath_strict(text, asked).score for text in ("31.5 million", "31.5", "31.5 billion")] == [1, 1, 0]
    assert docmath_strict("31.5 million", make_row(31_500_000)).score == 1


def test_yes_or_no():
    assert [docmath_strict(text, make_row(True)).score for text in ("Yes", "true", "no", "Yes and no", "1")] == [
        1, 1, 0, 0, 0,
    ]  # fmt: skip


def test_corpusqa_says_what_it_decided():
    number = make_row("12")
    assert corpusqa_strict("The answer is: 13", number) == (0, "13", {"decided": 1})
    assert corpusqa_strict("The answer is: a dozen or so", number).parts == {"decided": 0}
    assert corpusqa_strict("The answer is: 3, 4, 4", make_row("[4, 3, 3]")) == (0, "3, 4, 4", {"decided": 1})
    assert corpusqa_strict("The answer is: []", ITEMS).parts == {"decided": 1}


def test_options_are_read_from_the_end_of_the_prompt():
    row = make_row("B", options="A. not an option\nC. nor this\n(A) Rome\n(B) Paris\n(C) Kyiv\n(D) Oslo\n(E) Bonn")
    assert options_of(row) == {"A": "Rome", "B": "Paris", "C": "Kyiv", "D": "Oslo", "E": "Bonn"}
    assert options_of(make_row("B", options="none", meta={"options": {"A": "x", "B": "y"}})) == {"A": "x", "B": "y"}


def test_citations_have_precision_and_recall():
    text = "<useful_chunks><CHUNK_3><CHUNK_3><CHUNK_5><CHUNK_99></useful_chunks><answer>x</answer>"
    for rule in (cited_f2, cited_f2_strict):
        outcome = rule(text, EVIDENCE)
        assert outcome.parts == {"precision": pytest.approx(1 / 3), "recall": 0.5, "cited": 3, "outside": 1}
        assert outcome.score == pytest.approx(5 * (1 / 3) * 0.5 / (4 / 3 + 0.5))
    with pytest.raises(ValueError, match=r"row 'r1': evidence = \(\).*Fix:"):
        cited_f2(text, TEXT)


@pytest.mark.parametrize(("rule", "row"), RULES)
@pytest.mark.parametrize(
    "unit",
    ["<answer>", "<useful_chunks>", "</think>", "<think>", "The answer is ", "1,", "A. ", "\\boxed{", "[Answer]\n",
     "a\n", "9", "= ", "(", "\ud800", "[", "or "],
)  # fmt: skip
def test_any_text_takes_linear_time_and_raises_nothing(rule, row, unit):
    started = time.process_time()
    assert 0 <= rule(unit * (60_000 // len(unit)), row).score <= 1
    assert time.process_time() - started < 1
