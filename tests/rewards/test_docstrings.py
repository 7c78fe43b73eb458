"""The examples in the docstrings of rewards and data are true: tables of answers, and doctests."""

import doctest
import importlib
from pathlib import Path

import pytest
import verl_longrl
from verl_longrl.rewards import AnswerOptions
from verl_longrl.rewards.matching import answer_match, list_items, qualifiers, two_way_match

ROOT = Path(verl_longrl.__file__).parent
DOCTESTED = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in [*ROOT.glob("rewards/**/*.py"), *ROOT.glob("data/*.py"), ROOT / "secrets.py"]
    if ">>>" in path.read_text()
)


def table(module):
    """Rows of the table in a module's docstring: (answer, gold answers, verdict)."""
    for line in module.__doc__.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[2] in ("right", "wrong"):
            yield cells[0].strip("`"), [gold.strip("`") for gold in cells[1].split(" or ")], cells[2]


@pytest.mark.parametrize(
    ("mode", "answer", "golds", "verdict"),
    [
        (mode, *row)
        for module, mode in ((answer_match, "contain"), (qualifiers, "contain"), (two_way_match, "two_way"))
        for row in table(module)
    ],
)
def test_tables_of_answers(mode, answer, golds, verdict):
    (gold,) = golds
    assert answer_match.matches_gold(answer, gold, AnswerOptions(mode=mode)) == (verdict == "right")


@pytest.mark.parametrize(("line", "golds", "verdict"), list(table(list_items)))
def test_table_of_list_items(line, golds, verdict):
    assert (list_items.comparable_items(golds, [line]).recall > 0) == (verdict == "right")


def test_the_tables_are_found():
    modules = (answer_match, qualifiers, two_way_match, list_items)
    assert [len(list(table(module))) for module in modules] == [23, 9, 15, 9]


@pytest.mark.parametrize("name", DOCTESTED)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
