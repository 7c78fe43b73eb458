"""Write a response that gives an answer the way the prompts of its task ask for it.

Pipelines score such a response with the task's own reward to prove that a row's ground truth can earn all of it. The
first sentence of every answer instruction, `THINK_FIRST`, is here too, so that prompts and responses agree on it.
"""

from __future__ import annotations

import json
from typing import Any

THINK_FIRST = {
    "English": "Think step by step first, and end your reasoning with </think>. Then ",
    "Chinese": "请先逐步思考，并以 </think> 结束推理。然后",
}
"""Language -> how an answer instruction begins; what follows completes the sentence."""
REASONING = "I have looked through the text.</think>\n"


def render_response(data_source: str, answer: Any, language: str = "English") -> str:
    """The response to a prompt of this data source, in "English" or "Chinese".

    answer: a text; a table as JSON (golongrl_table); for tasks that are answered in lines, a text or a list of texts,
        one for each line.
    """
    chinese = language == "Chinese"
    match data_source:
        case "math" | "loongrl_choice" | "golongrl_math":
            final = f"\\boxed{{{answer}}}"
        case "golongrl_table":
            final = f"<answer>{json.dumps(answer, ensure_ascii=False)}</answer>"
        case "golongrl_retrieval":
            final = answer
        case "golongrl_choice":
            final = f"正确答案是（{answer}）" if chinese else f"The correct answer is ({answer})"
        case _:
            items = [answer] if isinstance(answer, str) else answer
            final = "\n".join(["[答案]" if chinese else "[Answer]", *items])
    return REASONING + final
