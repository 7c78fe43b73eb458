r"""Check that a gold answer can be given: written as the task asks for it, it earns the full reward.

A gold answer with markup (`</think>`, `\text{Paris}`, an open brace in a box) may be read by its scorer, and yet no
response reaches it: every rollout of the row earns 0, at the full cost of its generation. So each distinct gold answer
is scored once against itself, which takes about 0.1 ms. A user's own scorers are not known here and not checked.

A mathematical answer is also refused if it cannot be computed (9^9^9^9): each response would cost the parser's whole
deadline. Most such answers are found by their size; for the others, a trial tells (`SlowGolds`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

from verl_longrl.rewards.matching.number_size import has_more_digits
from verl_longrl.rewards.registry import GoldError, Scorer

MAX_SLOW = 3
"""Gold answers that are waited for until the parser's deadline. The file is refused then, and others are not tried."""
MAX_DIGITS = 100_000
"""Digits of a number that math-verify may be asked to compute."""
# An answer of words, numbers and the signs of a sentence cannot be taken for markup.
_PLAIN = re.compile(r"[\w ,.'-]{0,99}\w[\w ,.'-]{0,99}")
_ARTICLES = {"a", "an", "the"}
_ANSWER = "the answer as a model would give it"
_COMPUTABLE = "a number or formula that a computer can evaluate"
# A long exponent, an exponent in an exponent, the factorial of an expression, and operations over a range.
_NEEDS_TRIAL = re.compile(
    r"(?:\^|\*\*)[\s{(+-]{0,8}\d{4}|\^\s?[{(][^{}()^]{0,40}\^|[)}\]]\s?!|!!|binom.{0,20}\d{4}|\\(?:prod|sum|int|lim)\b"
)

Responses = Callable[[Any], list[str]]
"""Ground truth -> responses, of which the best must earn the full reward."""


def find_unreachable(source: str, scorer: Scorer, ground_truth: Any, extra_info: Mapping[str, Any]) -> GoldError | None:
    """The reason why no response can earn the full reward of a row whose ground truth `scorer` has read."""
    from verl_longrl.rewards.tasks.golongrl import TASKS, longbench_pro, longbench_pro_task

    if scorer is longbench_pro:
        source = longbench_pro_task(extra_info.get("reward_mode"))
        scorer = TASKS[source]
    # A tuple of texts can be a key of the cache. Other values, such as tables, hardly ever repeat.
    if isinstance(ground_truth, list) and all(isinstance(item, str) for item in ground_truth):
        ground_truth = tuple(ground_truth)
    find = _find_once if isinstance(ground_truth, str | tuple) else _find_once.__wrapped__
    return find(source, scorer, ground_truth)


@lru_cache(maxsize=4096)
def _find_once(source: str, scorer: Scorer, ground_truth: Any) -> GoldError | None:
    from verl_longrl.rewards.scoring import Job, score_for_each_verdict

    contract = _contracts().get(scorer)
    if contract is None:
        return None
    responses, kind = contract
    shown = list(ground_truth) if isinstance(ground_truth, tuple) else ground_truth
    if kind in ("text", "math"):
        golds = _texts(ground_truth)
        if kind == "text" and all(map(_has_only_articles, golds)):
            return GoldError(shown, "has only articles, and answers are compared without them", _ANSWER)
        if kind == "math" and (gold := next((text for text in golds if has_more_digits(text, MAX_DIGITS)), None)):
            problem = f"no machine can compute {gold[:60]}: it has more than {MAX_DIGITS} digits"
            return GoldError(shown, problem, _COMPUTABLE)
        if any(map(_PLAIN.fullmatch, golds)):
            return None
    reason = ""
    for response in responses(ground_truth):
        score = score_for_each_verdict(Job(source, response, ground_truth, {"ref_chunks": [0]}))[0]
        answer = score.parts.get("answer", 0.0)
        if math.isclose(answer, 1.0):
            return None
        reason = reason or score.reason or f"{answer:g} of 1"
    problem = f"no response earns the full reward, not even the gold answer itself ({reason})"
    return GoldError(shown, problem, _ANSWER)


@cache
def _contracts() -> dict[Scorer, tuple[Responses, str]]:
    """For each scorer whose ground truth may be out of reach: its responses, and the kind of its answer.

    By function, not by name: a user may have registered another scorer under the name.
    """
    from verl_longrl.rewards.matching.answer_match import gold_answers
    from verl_longrl.rewards.tasks.golongrl import TASKS
    from verl_longrl.rewards.tasks.golongrl_gold import gold_first, gold_items, gold_label, gold_references
    from verl_longrl.rewards.tasks.longrlvr import longrlvr
    from verl_longrl.rewards.tasks.loongrl_qa import loongrl_qa
    from verl_longrl.rewards.tasks.loongrl_retrieval import loongrl_retrieval
    from verl_longrl.rewards.tasks.math import math as math_answer

    def boxes(texts: list[str]) -> list[str]:
        return [f"\\boxed{{{text}}}" for text in texts]

    def with_escaped_braces(texts: list[str]) -> list[str]:
        return [*texts, *(re.sub(r"[{}]", r"\\\g<0>", text) for text in texts)]

    def lines(texts: list[str]) -> list[str]:
        return [f"[Answer]\n{text}" for text in texts]

    def table(truth: Any) -> str:
        label = gold_label(truth)
        return label if isinstance(label, str) else json.dumps(label, ensure_ascii=False, default=str)

    grounded = "<useful_chunks><CHUNK_0></useful_chunks><answer>{}</answer>"
    contracts: dict[Scorer, tuple[Responses, str]] = {
        longrlvr: (lambda truth: [grounded.format(gold) for gold in gold_answers(truth)], "text"),
        loongrl_qa: (lambda truth: boxes(with_escaped_braces(gold_answers(truth))), "text"),
        loongrl_retrieval: (lambda truth: boxes(with_escaped_braces([", ".join(gold_answers(truth))])), "list"),
        math_answer: (lambda truth: boxes(gold_answers(truth)), "math"),
        TASKS["golongrl_math"]: (lambda truth: boxes(gold_answers(gold_label(truth))), "math"),
        TASKS["golongrl_retrieval"]: (lambda truth: gold_answers(gold_label(truth)), "text"),
        TASKS["golongrl_qa"]: (lambda truth: lines(gold_first(truth)), "text"),
        TASKS["golongrl_summary"]: (lambda truth: lines(gold_references(truth)), "summary"),
        TASKS["golongrl_table"]: (lambda truth: [f"<answer>{table(truth)}</answer>"], "table"),
    }
    for name in ("golongrl_exhaustive", "golongrl_matching", "golongrl_ranking", "golongrl_ordering"):
        contracts[TASKS[name]] = (lambda truth: lines(["\n".join(gold_items(truth))]), "list")
    return contracts


def _texts(ground_truth: Any) -> list[str]:
    from verl_longrl.rewards.tasks.golongrl_gold import gold_label

    label = gold_label(ground_truth)
    return [str(gold) for gold in (label if isinstance(label, list | tuple) else [label])]


def _has_only_articles(gold: str) -> bool:
    """Whether a gold answer is nothing but articles. A single A may be a letter instead."""
    words = re.findall(r"\w+", gold[:40].casefold())
    return bool(words) and words != ["a"] and set(words) <= _ARTICLES


class SlowGolds:
    """Finds mathematical gold answers whose comparison with a number takes longer than the scorer's deadline."""

    def __init__(self) -> None:
        self._tried: dict[str, GoldError | None] = {}

    def find(self, source: str, ground_truth: Any) -> GoldError | None:
        """The first such gold answer of a row, as an error; None when there is none."""
        from verl_longrl.rewards import resolve

        _, kind = _contracts().get(resolve(source), (None, ""))
        if kind != "math":
            return None
        try:
            risky = [gold for gold in _texts(ground_truth) if _NEEDS_TRIAL.search(gold)]
        except GoldError:
            return None
        for gold in risky:
            if gold not in self._tried and sum(map(bool, self._tried.values())) < MAX_SLOW:
                self._tried[gold] = _compare_with_a_number(source, gold)
        return next((error for gold in risky if (error := self._tried.get(gold))), None)


def _compare_with_a_number(source: str, gold: str) -> GoldError | None:
    from verl_longrl.rewards.scoring import score

    result = score(source, "\\boxed{1.5}", gold)
    return None if result.status == "ok" else GoldError(gold, result.reason, _COMPUTABLE)
