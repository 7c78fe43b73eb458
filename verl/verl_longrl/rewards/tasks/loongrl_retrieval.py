r"""LoongRL's retrieval (its Book RULER rows): every value asked for, and nothing else, in the last box.

Answer form: the values in the last `\boxed{}`.

Not seen: the order of the values, and where they were found.

    recall     share of the values that are listed
    precision  share of the box's tokens that belong to listed values; "and" and other function words do not count
    reward     recall * precision, or with `retrieval=all` 1 when both are 1, else 0

While nothing else is listed, the reward is the fraction found. Listing k candidates for one value earns 1/k, the
expected reward of picking one of them at random. A further guess next to n right values pays only when it is right with
probability above n / (2n + 1), and the whole book in the box earns nothing. Values are compared as runs of whole
tokens, as sets: listing one twice changes nothing. The released default (`ruler_multi`, `pure_exact_match`) pays in
full for any one of the values; here it does not, also under `paper_exact`.

Anything else in the box lowers precision, also the numbers of a numbered list. The beginning of RULER's own answers
("The special magic numbers for X mentioned in the provided text are") and "The values are" are ignored. A value that is
denied ("not 12", "12 is not in the text", "all except 12") is a wrong token. Neither depends on the values asked for,
so naming a value there never pays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from verl_longrl.rewards.matching.answer_match import gold_answers
from verl_longrl.rewards.matching.response_format import parse_boxed, plain_text
from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS, MAX_CHARS, answer_tokens
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.registry import scorer
from verl_longrl.rewards.score import Score

# "The special magic numbers for X mentioned in the provided text are", and the other prefixes of RULER's answers.
_RULER_PREFIX = re.compile(
    r"\A[^\n]{0,200}?\b(?:in|from) the (?:provided|given|above|coded)?\s?"
    r"(?:text|list|context|passages?|documents?|book)\b(?: above)?"
    r"(?:[^\n:]{0,120}?\b(?:is|are)\s?:|[^\n:]{0,120}?\b(?:is|are)\b|:)",
    re.IGNORECASE,
)
# "The values are".
_LEAD_IN = re.compile(
    r"\A[^\d:,;\n]{0,80}?\b(?:numbers?|values?|words?|uuids?|keys?|answers?)\b[^\d:,;\n]{0,40}?(?:\b(?:is|are)\b|:)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[;\n；。]|[.!?](?=\s)|\bbut\b", re.IGNORECASE)
_DENIALS = {
    "not",
    "no",
    "never",
    "neither",
    "nor",
    "none",
    "without",
    "except",
    "excluding",
    "cannot",
    "unlike",
    "instead",
}
_DENIALS |= {"isnt", "arent", "wasnt", "werent", "dont", "doesnt", "didnt", "cant", "wont"}


class ValueMatch(NamedTuple):
    """How well a text lists the expected values, both numbers in [0, 1]."""

    recall: float
    precision: float


def match_values(text: str, values: Collection[str]) -> ValueMatch:
    """Recall and precision of the values in `text`; (0, 0) when it has none, or is too long to be read as a whole.

    Where values overlap, the longest one that starts first counts. Raises ValueError without values to look for.

    >>> match_values("12, 15 and 99", ["12", "15", "17"])
    ValueMatch(recall=0.6666666666666666, precision=0.6666666666666666)
    >>> match_values("12, not 15", ["12", "15"])
    ValueMatch(recall=0.5, precision=0.3333333333333333)
    """
    expected = {tuple(answer_tokens(value)) for value in values} - {()}
    if not expected:
        raise ValueError(f"values = {list(values)!r}: nothing to look for; expected at least one value")
    listed: set[tuple[str, ...]] = set()
    value_tokens = other_tokens = 0
    for statement in _statements(text) if len(text) <= MAX_CHARS else ():
        runs = list(_split_into_runs(answer_tokens(statement), expected))
        denied_from = _find_denial(runs, expected)
        for position, run in enumerate(runs):
            if run in expected and position < denied_from:
                listed.add(run)
                value_tokens += len(run)
            else:
                other_tokens += sum(word not in FUNCTION_WORDS for word in run)
    if not listed:
        return ValueMatch(0.0, 0.0)
    return ValueMatch(len(listed) / len(expected), value_tokens / (value_tokens + other_tokens))


def _statements(text: str) -> list[str]:
    """The text without RULER's prefix: as a whole, or sentence by sentence if it has a denial."""
    text = _LEAD_IN.sub("", _RULER_PREFIX.sub("", text, count=1), count=1)
    return _SENTENCE_END.split(text) if _DENIALS.intersection(answer_tokens(text)) else [text]


def _split_into_runs(words: list[str], expected: Collection[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The values in `words`, and each word between them, in order."""
    lengths = sorted({len(value) for value in expected}, reverse=True)
    position = 0
    while position < len(words):
        runs = (tuple(words[position : position + length]) for length in lengths)
        run = next((run for run in runs if run in expected), (words[position],))
        yield run
        position += len(run)


def _find_denial(runs: list[tuple[str, ...]], expected: Collection[tuple[str, ...]]) -> int:
    """The index of the first denied run: after a denial all are, and before "is not" too."""
    denials = [i for i, run in enumerate(runs) if run not in expected and run[0] in _DENIALS]
    if not denials:
        return len(runs)
    first = denials[0]
    is_after_verb = runs[first][0].endswith("nt") or (
        first > 0 and runs[first - 1][0] in FUNCTION_WORDS - {"and", "but"}
    )
    return 0 if is_after_verb and first > 0 else first


@scorer("loongrl_retrieval", patterns=("custom_rulerniah_*",), gold=lambda truth, _: gold_answers(truth))
def loongrl_retrieval(response: str, ground_truth: Any, extra_info: Mapping[str, Any], options: RewardOptions) -> Score:
    """Score a boxed list; `ground_truth` is the list of values, or the only one."""
    values = gold_answers(ground_truth)
    parsed = parse_boxed(response, require_think=options.require_think)
    if parsed.error:
        return Score.format_error(parsed.error)
    recall, precision = match_values(plain_text(parsed.answer), values)
    complete = float(recall == precision == 1)
    parts = {"answer": complete, "recall": recall, "precision": precision, "format": 1.0}
    return Score(complete if options.retrieval == "all" else recall * precision, parts)
