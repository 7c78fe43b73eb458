"""How a row with a long text, or with tables, is asked in English or Chinese.

How to answer is what the task's reward reads, as in `data_gen/multitask/prompts.py`. Where the row's own question says
how its items are written, this repeats it in other words: what comes last is the form that is scored.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.multitask import prompts

TEXT = {
    "English": (prompts.OPENING, prompts.CLOSING),
    "Chinese": ("阅读下面的文本。\n\n", "\n\n（文本到此结束。）\n\n"),
}
TABLES = {
    "English": ("Read the following tables.\n\n", "\n\n(The tables end here.)\n\n"),
    "Chinese": ("阅读下面的表格。\n\n", "\n\n（表格到此结束。）\n\n"),
}
"""For each language, what stands before and after what is read."""

_ITEMS = prompts.lines("the items of the answer, each written as the question asks")
_ITEMS_IN_ORDER = prompts.lines("the items of the answer, written and ordered as the question asks")
_THINK = "Think step by step first and end your reasoning with </think>. Then "
_THINK_ZH = "请先逐步思考，并以 </think> 结束推理。然后"
_ONLY = "，不要写任何其他内容。"
_LINES = "先单独写一行 [答案]，再从下一行起逐行写出答案的各项，每行一项，"
_ANSWER_AS = {
    "English": {
        "golongrl_retrieval": _THINK + "write the answer, word for word as it stands in the text, and nothing else.",
        "golongrl_qa": prompts.first_line("the answer, written as the question asks"),
        "golongrl_choice": prompts.CHOICE,
        "golongrl_exhaustive": _ITEMS,
        "golongrl_math": _THINK + "give the answer, and nothing else, inside \\boxed{}.",
        "golongrl_matching": _ITEMS,
        "golongrl_ranking": _ITEMS_IN_ORDER,
        "golongrl_ordering": _ITEMS_IN_ORDER,
        "golongrl_summary": prompts.SUMMARY,
    },
    "Chinese": {
        task: _THINK_ZH + asked
        for task, asked in {
            "golongrl_retrieval": "写出答案，与原文逐字一致" + _ONLY,
            "golongrl_qa": "先单独写一行 [答案]，再在下一行按题目要求的写法写出答案" + _ONLY,
            "golongrl_choice": "写出“正确答案是（X）”，其中 X 换成正确选项的字母" + _ONLY,
            "golongrl_exhaustive": _LINES + "写法按题目要求" + _ONLY,
            "golongrl_math": "把答案写在 \\boxed{} 中，框内不要写任何其他内容。",
            "golongrl_matching": _LINES + "写法按题目要求" + _ONLY,
            "golongrl_ranking": _LINES + "写法和顺序按题目要求" + _ONLY,
            "golongrl_ordering": _LINES + "写法和顺序按题目要求" + _ONLY,
            "golongrl_summary": "先单独写一行 [答案]，再在其下写出摘要" + _ONLY,
        }.items()
    },
}


def answer_as(task: str, language: str) -> str:
    """How to answer a task (a data source such as golongrl_qa), unless it is a table."""
    return _ANSWER_AS[language][task]


def table_as(columns: Sequence[str], language: str) -> str:
    """How to answer with a table of these columns."""
    if language == "English":
        return prompts.table(columns)
    names = "、".join(f'"{name}"' for name in columns)
    return (
        _THINK_ZH + '以 JSON 给出表格，写成 <answer>{"columns": [...], "data": [[...], [...]]}</answer>，'
        f"其中 columns 依次为 {names}，data 中每行一个列表，单元格按列的顺序排列。"
    )


def about(shown: str, between: tuple[str, str], question: str, answer: str) -> list[dict[str, str]]:
    """The conversation: what is read, between its opening and closing, the question about it, how to answer."""
    opening, closing = between
    return [{"role": "user", "content": f"{opening}{shown}{closing}{question}\n\n{answer}"}]
