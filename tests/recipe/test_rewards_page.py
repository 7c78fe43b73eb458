"""docs/rewards.md is up to date, each task says what the page promises, and the page's own example works."""

import re
from pathlib import Path

import pytest
from verl_longrl.rewards import RewardOptions, check_gold, load_scorers, registered, resolve, score

from recipe.longrl import rewards_page
from recipe.longrl.rewards_page import FACTS, all_tasks

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date():
    assert (ROOT / "docs/rewards.md").read_text() == rewards_page.page(), (
        "docs/rewards.md is not what the scorers' modules say. Fix: python -m recipe.longrl.rewards_page > "
        "docs/rewards.md"
    )


def test_every_data_source_of_ours_is_on_the_page_once():
    ours = [name for name in registered() if resolve(name).__module__.startswith("verl_longrl.rewards.tasks.")]
    assert sorted(source for task in all_tasks() for source in task.sources) == ours


# longbench_pro only passes a row on to one of the other tasks.
@pytest.mark.parametrize(
    "task", [task for task in all_tasks() if task.name != "longbench_pro"], ids=lambda task: task.name
)
def test_every_task_has_the_facts_of_the_page(task):
    missing = [label for label in FACTS if not task.facts.get(label)]
    assert not missing, f"{task.module}: has no {missing}. Fix: add the paragraphs to its docstring"
    everything = " ".join([*task.facts.values(), task.text])
    assert re.search(r"published|released|paper_exact", everything, re.IGNORECASE), (
        f"{task.module}: how does it differ from the paper?"
    )


def test_the_example_of_a_scorer_works(tmp_path: Path):
    (code,) = re.findall(r"```python\n(.*?)```", rewards_page.page(), re.DOTALL)
    (tmp_path / "my_rewards.py").write_text(code)
    assert set(load_scorers([str(tmp_path / "my_rewards.py")])) == {"keywords", "keywords_*"}

    half = score("keywords_short", "so</think> A red bridge", ["Bridge", "tower"])
    assert (half.value, half.status, half.candidate) == (0.5, "ok", "A red bridge")
    long = score("keywords", "A red bridge", ["Bridge"], {"max_words": 2})
    assert (long.value, long.reason) == (0.0, "more than 2 words")
    unread = score("keywords", "A red bridge", ["Bridge"], options=RewardOptions(require_think=True))
    assert unread.status == "format_error"
    with pytest.raises(ValueError, match=r"has no keywords\. Fix: write a non-empty list of texts"):
        check_gold("keywords", [], {})
