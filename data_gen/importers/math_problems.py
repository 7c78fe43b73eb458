r"""Import math problems with a final answer, from DAPO-Math-17k or from plain rows, for the reward `math`.

DAPO's prompts contain their own instruction ("The last line of your response should be of the form Answer: ...").
The problem is taken out of it and put into this project's wording, so that a mix trains a single format: reasoning
that ends with </think>, then the answer in \boxed{}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from verl_longrl.data.schema import Sample
from verl_longrl.rewards.matching.response_format import parse_boxed

from data_gen.importers.fields import Unusable, clean, describe_fields, prove_sample, required_text
from data_gen.keychain.prompts import ANSWER, messages

TASK = "math"
DAPO = "math_dapo"
_DAPO_PROMPT = re.compile(
    r"Solve the following math problem step by step\.[^\n]*Answer:[^\n]*\n(.*)\n"
    r'Remember to put your answer on its own line after "Answer:"[^\n]*',
    re.DOTALL,
)


def import_problem(row: Mapping[str, Any]) -> Sample:
    """Import a row with `problem` or `question`, and `answer`: one answer, or a list of accepted ones."""
    answers = row.get("answer")
    return _sample(required_text(row, "problem", "question"), answers if isinstance(answers, list) else [answers], row)


def import_dapo(row: Mapping[str, Any]) -> Sample:
    """Import a row of DAPO-Math-17k: `prompt` as messages, or as text alone; the answer in `reward_model.ground_truth`.

    Raises:
        Unusable: also (other_task) a row of another data_source, (unknown_wording) a prompt that is not DAPO's.
    """
    if row.get("data_source", DAPO) != DAPO:
        raise Unusable("other_task", f"data_source is {short(row['data_source'])}, expected {DAPO}")
    model = row.get("reward_model")
    answer = model.get("ground_truth") if isinstance(model, Mapping) else None
    return _sample(_problem_in(row.get("prompt"), row), [answer], row)


def _problem_in(prompt: Any, row: Mapping[str, Any]) -> str:
    """The problem in a prompt: a message has it within DAPO's wording, text alone may be the bare problem."""
    message = prompt[-1] if isinstance(prompt, list) and prompt else None
    content = clean(message.get("content") if isinstance(message, Mapping) else prompt)
    match = _DAPO_PROMPT.fullmatch(content)
    if content and not match and message is not None:
        raise Unusable("unknown_wording", f"the prompt is not in DAPO's wording: {short(content)}")
    problem = match[1].strip() if match else content
    if not problem:
        raise Unusable("no_problem", f"prompt is {short(prompt)}, expected messages or text ({describe_fields(row)})")
    return problem


def _sample(problem: str, answers: list[Any], row: Mapping[str, Any]) -> Sample:
    golds = [_final_answer(clean(answer)) for answer in answers]
    if not golds or not all(golds):
        raise Unusable("no_answer", f"answer is {short(answers)}, expected text or a number ({describe_fields(row)})")
    sample = Sample(
        data_source=TASK,
        prompt=messages(f"{problem}\n\n{ANSWER}"),
        ground_truth=golds[0] if len(golds) == 1 else golds,
        index=0,
        question=problem,
        task=TASK,
        ability="math",
    )
    for gold in golds:
        prove_sample(sample, gold)
    return sample


def _final_answer(answer: str) -> str:
    """The answer without its wrapping in datasets: a solution before #### (as in GSM8K), one box, dollar signs."""
    answer = answer.rpartition("####")[2].strip()
    answer = answer[1:-1].strip() if re.fullmatch(r"\$[^$]*\$", answer) else answer
    if answer.startswith("\\boxed{") and answer.count("\\boxed{") == 1 and answer.endswith("}"):
        answer = parse_boxed(answer).answer
    if "\n" in answer:
        raise Unusable("no_final_answer", f"the answer is a text of several lines, {short(answer)}, expected one line")
    return answer
