"""A response that gives an answer as prompts of its task ask for it: what a proof puts to the task's own reward."""

from __future__ import annotations

import json
from typing import Any

REASONING = "I have looked through the text.</think>\n"


def response(data_source: str, answer: Any, language: str = "English") -> str:
    """The response to a prompt of this data source, in "English" or "Chinese".

    answer: a text; a table as JSON (golongrl_table); a text, or a list of them with one on each line (tasks that are
    answered in lines).
    """
    chinese = language == "Chinese"
    match data_source:
        case "math" | "loongrl_choice" | "golongrl_math":
            given = f"\\boxed{{{answer}}}"
        case "golongrl_table":
            given = f"<answer>{json.dumps(answer, ensure_ascii=False)}</answer>"
        case "golongrl_retrieval":
            given = answer
        case "golongrl_choice":
            given = f"正确答案是（{answer}）" if chinese else f"The correct answer is ({answer})"
        case _:
            items = [answer] if isinstance(answer, str) else answer
            given = "\n".join(["[答案]" if chinese else "[Answer]", *items])
    return REASONING + given
