"""The tables of rewarded responses in `tests/rewards/cases`, one for each module of rewards that has a rule.

Kinds of rows: `correct`, `partial` and `wrong` answers, `gaming` (tricks that must not pay), `malformed` responses.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, Score, score

FOLDER = Path(__file__).parents[1] / "rewards/cases"
PUBLISHED = RewardOptions(paper_exact=True)


def load_table(module: str) -> Any:
    """The table of a module, by its name: a list of cases, or lists by kind."""
    return yaml.safe_load((FOLDER / f"{module}.yaml").read_text())


def load_rows(module: str) -> list[tuple[str, dict[str, Any]]]:
    """The table of a module as (kind, case) pairs."""
    return [(kind, case) for kind, cases in load_table(module).items() for case in cases]


def listing(lines: Iterable[str]) -> str:
    """A response of GoLongRL's tasks that answer with a list."""
    return "b, or a</think>[Answer]\n" + "\n".join(lines)


def check_listing(task: str, case: dict[str, Any]) -> Score:
    """Assert the value and the published value of a list: {lines, gold, value, published}. Returns the score."""
    response = listing(case["lines"])
    result = score(task, response, case["gold"])
    assert result.status == "ok"
    assert result.value == result.parts["answer"] == pytest.approx(case["value"], abs=5e-5)
    assert result.parts["format"] == 1
    assert tuple(result.metrics()) == METRIC_KEYS
    published = score(task, response, case["gold"], options=PUBLISHED).value
    assert published == pytest.approx(case.get("published", case["value"]), abs=5e-5)
    return result
