"""Measure rules for short answers: how often they pay for two candidates, for another answer, and for a right one.

    python scripts/bench/answer_rules.py --output docs/results/answer_rules.md
    python scripts/bench/answer_rules.py --failures

Needs no GPU and no network, and takes a few minutes. `answer_rules_cases.py` makes the texts; the rules are LongRL's
and those of other projects (`answer_rules_published.py`). `--failures` prints each text that a rule of LongRL decides
wrongly.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from string import Template
from typing import Annotated, Any, NamedTuple

import typer
from answer_rules_cases import KINDS, PAIRS_PER_TYPE, Case, Rule, load_yaml, make_cases
from verl_longrl.rewards.matching.answer_match import matches_gold
from verl_longrl.rewards.options import AnswerOptions

OUR_MODES = ("contain", "two_way", "exact", "f1")
PAGE = Path(__file__).with_name("answer_rules_page.txt")
ROWS_PER_KIND = 20
"""Templates that the page shows for each kind, those with the most failures."""


def our_rules() -> dict[str, Rule]:
    """The modes of `answer.mode` by name."""
    takes_question = "question" in inspect.signature(matches_gold).parameters

    def match(text: str, gold: str, question: str, options: AnswerOptions) -> bool:
        context: dict[str, Any] = {"question": question} if takes_question else {}
        return matches_gold(text, gold, options, **context)

    return {f"LongRL, `{mode}`": partial(match, options=AnswerOptions(mode=mode)) for mode in OUR_MODES}


class Measurement(NamedTuple):
    """paid: rule -> one flag for each case."""

    cases: list[Case]
    paid: dict[str, list[bool]]

    def count(self, rule: str, **wanted: str) -> tuple[int, int]:
        """How many cases are paid, and how many there are, of those whose fields have these values."""
        flags = [
            flag
            for case, flag in zip(self.cases, self.paid[rule], strict=True)
            if all(getattr(case, field) == value for field, value in wanted.items())
        ]
        return sum(flags), len(flags)

    def failures(self, rule: str) -> Iterator[Case]:
        """The cases that a rule decides wrongly."""
        for case, flag in zip(self.cases, self.paid[rule], strict=True):
            if flag != (case.kind == "paraphrases"):
                yield case


def measure(cases: list[Case], rules: dict[str, Rule]) -> Measurement:
    """Decide every case by every rule."""
    return Measurement(cases, {name: [case.is_paid(rule) for case in cases] for name, rule in rules.items()})


def table_of_rules(measurement: Measurement) -> list[str]:
    """Rules as rows, the three shares as columns."""
    sizes = [sum(case.kind == kind for case in measurement.cases) for kind in KINDS]
    lines = [
        "| rule | hedging: paid for both | altering: paid | paraphrases: accepted |\n|---|---|---|---|",
        f"| texts | {' | '.join(f'{size:,}' for size in sizes)} |",
        "| bar | 0 | at most 0.5 % | at least 90 % |",
    ]
    for rule in measurement.paid:
        shares = (_share(measurement.count(rule, kind=kind)) for kind in KINDS)
        lines.append(f"| {rule} | {' | '.join(shares)} |")
    return lines


def table_of_types(measurement: Measurement, rules: list[str]) -> list[str]:
    """Types of answers as rows, the three shares of some rules as columns."""
    lines = [
        f"| type | {' | '.join(f'{rule}: hedging | altering | paraphrases' for rule in rules)} |",
        "|---" * (1 + len(KINDS) * len(rules)) + "|",
    ]
    for type_ in dict.fromkeys(case.type for case in measurement.cases):
        counts = [measurement.count(rule, kind=kind, type=type_) for rule in rules for kind in KINDS]
        lines.append(f"| {type_} | {' | '.join(f'{paid}/{total}' for paid, total in counts)} |")
    return lines


def table_of_failures(measurement: Measurement, rules: list[str]) -> list[str]:
    """Templates as rows, those first that fail most; how often they fail under some rules, and one text."""
    examples: dict[tuple[str, str], Case] = {}
    failed: dict[str, Counter[tuple[str, str]]] = {rule: Counter() for rule in rules}
    for rule in rules:
        for case in measurement.failures(rule):
            examples.setdefault((case.kind, case.template), case)
            failed[rule][case.kind, case.template] += 1
    totals = Counter((case.kind, case.template) for case in measurement.cases)
    lines = [f"| kind | template | texts | {' | '.join(rules)} | a text, and its gold answer |"]
    lines.append("|---" * (4 + len(rules)) + "|")
    for kind in KINDS:
        rows = sorted(
            (row for row in examples if row[0] == kind), key=lambda row: -sum(c[row] for c in failed.values())
        )
        for row in rows[:ROWS_PER_KIND]:
            case = examples[row]
            cells = [kind, _code(case.template), totals[row], *(failed[rule][row] for rule in rules)]
            lines.append(f"| {' | '.join(map(str, cells))} | {_code(case.text)} for {_code(case.golds[0])} |")
        if len(rows) > ROWS_PER_KIND:
            lines.append(f"| {kind} | {len(rows) - ROWS_PER_KIND} more |" + " |" * (2 + len(rules)))
    return lines


def table_of_limits(rules: dict[str, Rule]) -> list[str]:
    """Texts that no rule can decide, with the verdicts of some rules."""
    lines = [f"| text | gold answer | a fair reader | {' | '.join(rules)} | why |", "|---" * (4 + len(rules)) + "|"]
    for limit in load_yaml("templates")["limits"]:
        text, gold, question = limit["text"], limit["gold"], limit["question"]
        verdicts = [limit["right"], *(rule(text, gold, question) for rule in rules.values())]
        words = " | ".join("right" if verdict else "wrong" for verdict in verdicts)
        lines.append(f"| {text} | {gold} | {words} | {limit['why']} |")
    return lines


def render_page(measurement: Measurement, rules: dict[str, Rule]) -> str:
    """The text of docs/results/answer_rules.md. The tables after the first are of our rules `contain` and `two_way`."""
    shown = list(rules)[:2]
    return Template(PAGE.read_text()).substitute(
        rules="\n".join(table_of_rules(measurement)),
        types="\n".join(table_of_types(measurement, shown)),
        failures="\n".join(table_of_failures(measurement, shown)),
        limits="\n".join(table_of_limits({rule: rules[rule] for rule in shown})),
    )


def _share(counts: tuple[int, int]) -> str:
    paid, total = counts
    return f"{paid / total:.2%}"[:-1] + " %" if paid else "0"


def _code(text: str) -> str:
    """`text` as code in a cell of a table."""
    shown = text.replace("\n", "⏎").replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def print_failures(measurement: Measurement) -> None:
    for rule in measurement.paid:
        print(rule, *(f"{kind} {_share(measurement.count(rule, kind=kind))}" for kind in KINDS), sep="  ")
        for case in measurement.failures(rule):
            print(
                f"  {case.kind:11} {case.type:12} {case.template!r:32} {case.text!r} for {case.golds} {case.question}"
            )


def main(
    output: Annotated[Path | None, typer.Option(help="The page to write.")] = None,
    failures: Annotated[bool, typer.Option(help="Print what LongRL's rules decide wrongly, and nothing else.")] = False,
    pairs: Annotated[int, typer.Option(help="Ordered pairs of answers per type, for hedging.")] = PAIRS_PER_TYPE,
    seed: Annotated[int, typer.Option(help="Seed of the pairs and questions.")] = 0,
) -> None:
    """Measure all rules, print their table and write the page."""
    cases, rules = make_cases(pairs, seed), our_rules()
    if failures:
        print_failures(measure(cases, rules))
        return
    # This imports verl and torch, which takes longer than measuring our rules on a small sample.
    from answer_rules_published import published_rules

    measurement = measure(cases, rules | published_rules())
    print("\n".join(table_of_rules(measurement)))
    if output:
        output.write_text(render_page(measurement, rules))


if __name__ == "__main__":
    typer.run(main)
