"""The judge's prompt as a model reads it; see tests/support/snapshots.py on how to update."""

from pathlib import Path

from support.snapshots import check_snapshot, render_messages, render_sections
from verl_longrl.rewards import JudgeOptions
from verl_longrl.rewards.judge.prompt import build_messages

SNAPSHOT = Path(__file__).parents[1] / "snapshots" / "judge.txt"


def test_the_judges_prompt():
    question, reference, candidate = "Who sold the mill?", "Bo | Robert", "It was Bo."
    options, secret = JudgeOptions(), b"a secret of the test"
    sections = {
        name: render_messages(build_messages(question, reference, candidate, excerpt, options, secret=secret)[0])
        for name, excerpt in (("with an excerpt", "In 1890 Bo sold the mill to Cy."), ("without an excerpt", None))
    }
    check_snapshot(SNAPSHOT, render_sections(sections))
