"""One letter of several options: LongBench v2 and LongReason, published and strict.

LongBench v2 (github.com/THUDM/LongBench, pred.py): stars are removed, and the first "The correct answer is (X)" counts,
or else the first without parentheses, X from A to D. Its "compensated" accuracy gives 0.25 to a row without a letter.

LongReason, as LongRLVR scored it: the key letter is a substring of the text after the reasoning. A cited "<CHUNK_3>"
contains a C, so that key is right nearly always.

Strict: the final answer names one option, by its letter or, where the options are known, by its text, and no second
one. The options are `row.meta["options"]`, {letter: text}, or else they are read from the end of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from verl_longrl.rewards.matching.answer_match import equals_gold
from verl_longrl.rewards.matching.response_format import parse_boxed, parse_choices
from verl_longrl.rewards.tasks.golongrl_choice import named_letter, published_letter
from verl_longrl.rewards.tasks.loongrl_choice import chosen_letter

from recipe.longrl.evaluation.records import Outcome, Row
from recipe.longrl.evaluation.rules.reading import after_think, final_answer

CHANCE = 0.25
"""The score of a row without a letter in LongBench v2's compensated accuracy."""
_OPTION = re.compile(r"^[ \t]{0,8}\(?([A-J])[).:][ \t]{0,8}(\S.{0,2000})$", re.MULTILINE)
_OPTIONS_CHARS = 20_000
"""Options are at the end of a prompt."""


def longbench_v2_official(text: str, row: Row) -> Outcome:
    """LongBench v2's accuracy: the first "The correct answer is (X)" names the key."""
    letter = published_letter(text) or ""
    return Outcome(float(letter == _key(row)), letter)


def longbench_v2_compensated(text: str, row: Row) -> Outcome:
    """LongBench v2's compensated accuracy: as the official one, but a text without a letter earns 0.25."""
    outcome = longbench_v2_official(text, row)
    return outcome if outcome.parsed else outcome._replace(score=CHANCE)


def longbench_v2_strict(text: str, row: Row) -> Outcome:
    """Whether the final answer names the key and no other option."""
    return _strict(text, row)


def longreason_published(text: str, row: Row) -> Outcome:
    """LongRLVR's rule: the key letter is anywhere in the text after the reasoning, in upper case."""
    answer = after_think(text)
    return Outcome(float(_key(row) in answer), answer.strip())


def longreason_strict(text: str, row: Row) -> Outcome:
    """Whether the final answer names the key and no other option."""
    return _strict(text, row)


def stated_letter(answer: str) -> str:
    """The one letter that an answer chooses, as a capital; "" when it chooses none or several.

    Read are, in this order: the whole answer, the last "The correct answer is (X)" or the like, the last box, and the
    last line, unless another line begins with another letter: a copy of the options chooses nothing.

    >>> [stated_letter(answer) for answer in ("(B)", "It is so. The answer is C.", r"\\boxed{A}", "B or C", "B\\nC")]
    ['B', 'C', 'A', '', '']
    """
    if letter := chosen_letter(answer):
        return letter
    letters = [letter for letter in map(named_letter, parse_choices(answer).answer) if letter is not None]
    if letters:
        return letters[-1]
    if box := parse_boxed(answer).answer:
        return chosen_letter(box)
    last = chosen_letter(answer.rstrip().rpartition("\n")[2])
    return last if set(map(chosen_letter, answer.split("\n"))) <= {"", last} else ""


def options_of(row: Row) -> dict[str, str]:
    """The options of a row by letter: `meta.options`, or those at the end of the prompt; {} if neither has any.

    In the prompt, one option is on a line, as "A. text", "(A) text" or "A: text", from A on without a gap.
    """
    options = row.meta.get("options")
    if isinstance(options, Mapping):
        return {str(letter): str(text) for letter, text in options.items()}
    prompt = row.messages[-1]["content"][-_OPTIONS_CHARS:] if row.messages else ""
    return _last_run(_OPTION.findall(prompt))


def _last_run(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The last lines whose letters are A, B, C, ... in this order."""
    run: dict[str, str] = {}
    for letter, text in lines:
        if letter == "A":
            run = {}
        if letter == "ABCDEFGHIJ"[len(run) : len(run) + 1]:
            run[letter] = text.strip()
    return run


def _strict(text: str, row: Row) -> Outcome:
    answer = final_answer(text)
    letter = stated_letter(answer) or _letter_of_text(answer, options_of(row))
    return Outcome(float(letter == _key(row)), letter)


def _letter_of_text(answer: str, options: Mapping[str, str]) -> str:
    """The letter of the one option whose text the answer is; "" if there is not exactly one."""
    letters = [letter for letter, text in options.items() if text.strip() and _equal(answer, text)]
    return letters[0] if len(letters) == 1 else ""


def _equal(answer: str, text: str) -> bool:
    """Whether two texts are equal apart from case, punctuation and the like."""
    try:
        return equals_gold(answer, text)
    except ValueError:
        # An option that is only punctuation has no tokens to compare.
        return answer.strip() == text.strip()


def _key(row: Row) -> str:
    """The letter asked for. Raises ValueError, with the row's id, unless it is one capital."""
    key = row.gold.strip() if isinstance(row.gold, str) else ""
    if not re.fullmatch("[A-Z]", key):
        raise ValueError(f"row {row.id!r}: gold = {row.gold!r}: expected one letter such as 'B'")
    return key
