"""Make the cases that rules for short answers are measured on, from gold answers and templates.

Gold answers of every type (`answer_rules_golds.yaml`) are put into templates of three kinds
(`answer_rules_templates.yaml`):

- hedging: the text names two gold answers of one type. A rule that pays for both pays a policy that cannot decide.
- altering: the text holds the gold answer, or most of it, and says something else.
- paraphrases: the text says the gold answer in a way that a fair reader accepts.

Nothing here depends on how a rule works. Left out are pairs of which one answer contains the other.
"""

from __future__ import annotations

import calendar
import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import permutations
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import yaml

KINDS = ("hedging", "altering", "paraphrases")
HAN = re.compile("[\u4e00-\u9fff]")

PAIRS_PER_TYPE = 10
"""Ordered pairs of answers of each type that hedging texts are made from."""

Rule = Callable[[str, str, str], bool]
"""(text, gold answer, question) -> whether the text is paid."""

_WORDS = re.compile(r"[-+]?[\w.+#]+")


class Gold(NamedTuple):
    """A gold answer. fields: what templates may refer to, `A` (the answer) and `question` among them."""

    type: str
    fields: dict[str, str]
    right: list[str]
    wrong: list[str]

    @property
    def answer(self) -> str:
        return self.fields["A"]


class Case(NamedTuple):
    """A text that is paid when it is right for every one of `golds`."""

    kind: str
    type: str
    template: str
    text: str
    golds: tuple[str, ...]
    question: str

    def is_paid(self, rule: Rule) -> bool:
        return all(rule(self.text, gold, self.question) for gold in self.golds)


@cache
def load_yaml(name: str) -> Any:
    """A data file next to this module."""
    return yaml.safe_load((Path(__file__).parent / f"answer_rules_{name}.yaml").read_text())


def load_golds() -> list[Gold]:
    """The gold answers of all types."""
    return [
        Gold(type_, fields_of(entry), entry.get("right", []), entry.get("wrong", []))
        for type_, entries in load_yaml("golds").items()
        for entry in entries
    ]


def fields_of(entry: dict[str, Any]) -> dict[str, str]:
    """The fields that templates may use. One that only repeats the answer is left out, so that no case counts twice."""
    answer = entry["answer"]
    decomposed = unicodedata.normalize("NFD", answer)
    fields = {
        "A_upper": answer.upper(),
        "A_lower": answer.lower(),
        "A_decomposed": decomposed,
        "A_ascii": "".join(character for character in decomposed if not unicodedata.combining(character)),
    }
    if "day" in entry:
        fields |= _date_fields(entry["day"], entry["month"], entry["year"])
    if "number" in entry:
        fields |= _number_fields(entry)
    if "members" in entry:
        fields |= _list_fields(entry["members"])
    fields = {name: text for name, text in fields.items() if text != answer}
    fields |= {"A": answer, "question": entry["question"]}
    fields |= {name: entry[name] for name in ("title", "subject") if name in entry}
    if "subject" in fields:
        fields["Subject"] = fields["subject"][0].upper() + fields["subject"][1:]
    if "says" in entry:
        fields["says"] = Template(entry["says"]).substitute(A=answer)
        fields["claim"] = entry["says"]
    return fields


def _date_fields(day: int, month: int, year: int) -> dict[str, str]:
    # 8/4/2008 is a day of April or of August, so digits alone say a date only where the day cannot be a month.
    if day > 12:
        by_digits = {"dmy_slashes": f"{day}/{month:02}/{year}", "dmy_dots": f"{day}.{month:02}.{year}"}
    else:
        by_digits = {"swapped_date": f"{month} {calendar.month_name[day]} {year}"} if day != month else {}
    ending = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return {
        "day": str(day),
        "month": str(month),
        "year": str(year),
        "month_padded": f"{month:02}",
        "day_padded": f"{day:02}",
        "month_name": calendar.month_name[month],
        "month_short": calendar.month_abbr[month],
        "day_ordinal": f"{day}{ending}",
        "iso": f"{year}-{month:02}-{day:02}",
        "other_day": str(day + 1 if day < 28 else day - 1),
        "next_month": calendar.month_name[month % 12 + 1],
        "next_year": str(year + 1),
        "century_later": str(year + 100),
        "year_digits_lost": str(year)[:-1],
    } | by_digits


def _number_fields(entry: dict[str, Any]) -> dict[str, str]:
    number, form = entry["number"], entry.get("form", "{}")
    wide = str.maketrans("0123456789.", "０１２３４５６７８９．")
    fields = {
        "plain_form": form.format(number),
        "commas_form": form.format(f"{number:,}"),
        "wide_form": form.format(number).translate(wide),
        "plus_one_form": form.format(f"{number + 1:,}"),
        "tenfold_form": form.format(f"{number * 10:g}"),
        "hundredfold_form": form.format(f"{number * 100:.10g}"),
        "thousand_form": form.format(f"{number} thousand"),
    }
    if number > 0:
        signs = {"minus_form": "minus ", "negative_form": "negative "}
        if str(number) in entry["answer"]:
            signs |= {"hyphen_form": "-", "sign_form": "−"}
        fields |= {name: f"{sign}{entry['answer']}" for name, sign in signs.items()}
    else:
        fields["dash_minus_form"] = form.format(str(number).replace("-", "–"))
    if "words" in entry:
        fields["words_form"] = form.format(entry["words"])
    if "long" in entry:
        fields["long_form"] = entry["long"].format(number)
    return fields


def _list_fields(members: list[str]) -> dict[str, str]:
    *first, last = members
    backwards = members[::-1]
    return {
        "first_member": members[0],
        "last_member": last,
        "all_but_last": " and ".join(first),
        "or_list": f"{', '.join(first)} or {last}",
        "commas": ", ".join(members),
        "commas_and": f"{', '.join(first)} and {last}",
        "oxford": f"{', '.join(first)}, and {last}",
        "semicolons": "; ".join(members),
        "bullets": "\n".join(f"- {member}" for member in members),
        "numbered": "\n".join(f"{number}. {member}" for number, member in enumerate(members, 1)),
        "reversed_commas": ", ".join(backwards),
        "reversed_and": f"{', '.join(backwards[:-1])} and {backwards[-1]}",
        "reversed_pause": "、".join(backwards),
        "commas_pause": "，".join(members),
    } | ({"both": f"both {first[0]} and {last}"} if len(members) == 2 else {})


def templates_for(kind: str, type_: str) -> list[str]:
    """The templates of a kind that apply to a type."""
    templates = load_yaml("templates")
    groups, language = templates["groups"], "zh" if type_.startswith("zh_") else "en"
    applicable: list[str] = []
    for types, texts in templates[kind][language].items():
        names = " ".join(groups.get(name, name) for name in types.split()).split()
        if types == "any" or type_ in names:
            applicable += texts
    return applicable


def are_alternatives(first: str, second: str) -> bool:
    """Whether two answers are different and neither contains the other, so that naming both is naming two."""
    return not any(_words_within(*pair) for pair in ((first, second), (second, first)))


def _words_within(inner: str, outer: str) -> bool:
    if HAN.search(inner):
        return inner in outer
    inner_words, outer_words = (f" {' '.join(_WORDS.findall(side.lower()))} " for side in (inner, outer))
    return inner_words in outer_words


def make_hedging_cases(golds: Iterable[Gold], pairs_per_type: int, draw: random.Random) -> Iterator[Case]:
    """Texts with two answers of one type. The question is that of either, or one that offers both."""
    by_type: dict[str, list[Gold]] = defaultdict(list)
    for gold in golds:
        by_type[gold.type].append(gold)
    for type_, same in by_type.items():
        pairs = [pair for pair in permutations(same, 2) if are_alternatives(pair[0].answer, pair[1].answer)]
        for first, second in draw.sample(pairs, min(pairs_per_type, len(pairs))):
            for template in templates_for("hedging", type_):
                parsed = Template(template)
                fields = _fields_of_pair(first, second, draw)
                if fields.keys() >= set(parsed.get_identifiers()):
                    golds_of_case = (first.answer, second.answer)
                    yield Case("hedging", type_, template, parsed.substitute(fields), golds_of_case, fields["question"])


def _fields_of_pair(first: Gold, second: Gold, draw: random.Random) -> dict[str, str]:
    """The fields of a hedging text: both answers, a question, and what each answer to that question claims."""
    offers = load_yaml("templates")["offers"]["zh" if first.type.startswith("zh_") else "en"]
    answers = {"A": first.answer, "B": second.answer}
    asked = draw.choice([first, second, None])
    if asked is None:
        return answers | {"question": Template(draw.choice(offers)).substitute(answers)}
    fields = answers | {"question": asked.fields["question"]}
    if "claim" in asked.fields:
        claim = Template(asked.fields["claim"])
        fields |= {"claim_A": claim.substitute(A=first.answer), "claim_B": claim.substitute(A=second.answer)}
    return fields


def make_cases_of_one(golds: Iterable[Gold], kind: str) -> Iterator[Case]:
    """Altered or paraphrased answers: from templates, and those that the answer's entry lists."""
    for gold in golds:
        by_hand, opposite = (gold.right, gold.wrong) if kind == "paraphrases" else (gold.wrong, gold.right)
        templates = dict.fromkeys(by_hand, "by hand")
        for template in templates_for(kind, gold.type):
            parsed = Template(template)
            if gold.fields.keys() >= set(parsed.get_identifiers()):
                # Two templates may give one text, which then counts once.
                templates.setdefault(parsed.substitute(gold.fields), template)
        # "40 more" is right where the question is how many more.
        templates = {text: template for text, template in templates.items() if text not in opposite}
        for text, template in templates.items():
            yield Case(kind, gold.type, template, text, (gold.answer,), gold.fields["question"])


def make_cases(pairs_per_type: int = PAIRS_PER_TYPE, seed: int = 0) -> list[Case]:
    """All cases, hedging first."""
    golds = load_golds()
    hedging = make_hedging_cases(golds, pairs_per_type, random.Random(seed))
    return [*hedging, *(case for kind in KINDS[1:] for case in make_cases_of_one(golds, kind))]
