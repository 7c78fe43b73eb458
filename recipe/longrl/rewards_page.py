"""Write docs/rewards.md, the page of all rewards, from the registry of scorers and the docstrings of their modules.

    python -m recipe.longrl.rewards_page > docs/rewards.md

A task's module says in its docstring what the page says: the metric in the first line, then `Answer form:` and
`Not seen:`, then formula, reasons and the published version. The rest of the page is `rewards_page.txt`.
"""

import inspect
import re
import sys
from importlib import resources
from string import Template
from typing import NamedTuple

from verl_longrl.rewards import registered, resolve
from verl_longrl.rewards.matching import answer_match
from verl_longrl.rewards.registry import Scorer

FACTS = ("Answer form", "Not seen")
"""Labels of the paragraphs that the docstring of each task's module has."""
_PAPERS = ("longrlvr", "loongrl", "golongrl", "")


class Task(NamedTuple):
    """A task as its scorer's module describes it. facts: one text for each of `FACTS` that the docstring has."""

    name: str
    sources: list[str]
    module: str
    metric: str
    facts: dict[str, str]
    text: str


def all_tasks() -> list[Task]:
    """LongRL's tasks, in the order of the page. Tasks that other modules have registered are left out."""
    sources: dict[Scorer, list[str]] = {}
    for name in registered():
        sources.setdefault(resolve(name), []).append(name)
    tasks = [_describe(function, names) for function, names in sources.items() if _is_ours(function)]
    return sorted(tasks, key=lambda task: (_paper_of(task.module), task.name))


def _is_ours(function: Scorer) -> bool:
    return function.__module__.startswith("verl_longrl.rewards.tasks.")


def _paper_of(module: str) -> int:
    name = module.rpartition("/")[2]
    return next(place for place, paper in enumerate(_PAPERS) if name.startswith(paper))


def _describe(function: Scorer, sources: list[str]) -> Task:
    module = sys.modules[function.__module__]
    metric, _, body = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    facts: dict[str, str] = {}
    paragraphs: list[str] = []
    for paragraph in body.split("\n\n"):
        label, colon, fact = paragraph.partition(":")
        if colon and label in FACTS:
            facts[label] = " ".join(fact.split())
        else:
            paragraphs.append(paragraph)
    name = function.__name__
    others = [source for source in sources if source != name]
    path = f"{module.__name__.replace('.', '/')}.py"
    return Task(name, [name, *others], path, metric, facts, "\n\n".join(paragraphs))


def page() -> str:
    """The text of docs/rewards.md."""
    tasks = all_tasks()
    template = Template(resources.files("recipe.longrl").joinpath("rewards_page.txt").read_text())
    return template.substitute(
        overview="\n".join(_overview(tasks)),
        answer_rules=inspect.cleandoc(answer_match.__doc__ or ""),
        tasks="\n\n".join(_section(task) for task in tasks),
    )


def _overview(tasks: list[Task]) -> list[str]:
    rows = [f"| [{task.name}](#{task.name}) | {_without_name(task.metric)} |" for task in tasks]
    return ["| task | reward |", "|---|---|", *rows]


def _without_name(metric: str) -> str:
    """The metric without the name of the paper in front of it and its citation: "the bare answer equals ..."."""
    text = re.sub(r"\s*\(arXiv [^)]*\)", "", metric.partition(": ")[2] or metric)
    return text.rstrip(".").replace("|", "\\|")


def _section(task: Task) -> str:
    sources = ", ".join(f"`{source}`" for source in task.sources)
    facts = [("data_source", sources), *task.facts.items(), ("module", f"[`{task.module}`](../verl/{task.module})")]
    rows = "\n".join(f"| {label} | {fact} |" for label, fact in facts)
    return f"### {task.name}\n\n{task.metric}\n\n| | |\n|---|---|\n{rows}\n\n{task.text}"


if __name__ == "__main__":
    print(page(), end="")
