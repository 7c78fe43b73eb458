"""Prompts of the importers: a long text or tables, a row's own question, and how to answer, in English or Chinese.

Each answer instruction asks for the format that the task's reward reads, as in `data_gen/multitask/prompts.py`. A row's
own question may already say how its items are to be written. The instruction comes last, so that the format that is
scored is also the last one that the model reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.answer_templates import THINK_FIRST
from data_gen.multitask import prompts

TEXT = {
    "English": (prompts.OPENING, prompts.CLOSING),
    "Chinese": ("阅读下面的文本。\n\n", "\n\n（文本到此结束。）\n\n"),
}
TABLES = {
    "English": ("Read the following tables.\n\n", "\n\n(The tables end here.)\n\n"),
    "Chinese": ("阅读下面的表格。\n\n", "\n\n（表格到此结束。）\n\n"),
}
"""Language -> the words before and after the text or the tables."""
TABLE_HEADING = {"English": "Table {}:\n", "Chinese": "表格 {}：\n"}
RUN_QUERY = {
    "English": "Give the table that this SQL query returns.\n\n{}",
    "Chinese": "给出下面的 SQL 查询返回的表格。\n\n{}",
}

_THINK, _THINK_ZH = THINK_FIRST["English"], THINK_FIRST["Chinese"]
_ITEMS = prompts.answer_lines("the items of the answer, each in the form that the question asks for")
_ORDERED_ITEMS = prompts.answer_lines("the items of the answer, in the form and order that the question asks for")
_ONLY = "，不要写任何其他内容。"
_LINES = "先单独用一行写 [答案]，再从下一行起写出答案的各项，每行一项，"
_ANSWER_AS = {
    "English": {
        "golongrl_retrieval": _THINK + "write the answer, word for word as it appears in the text, and nothing else.",
        "golongrl_qa": prompts.answer_line("the answer in the form that the question asks for"),
        "golongrl_choice": prompts.CHOICE_LETTER,
        "golongrl_exhaustive": _ITEMS,
        "golongrl_math": _THINK + "give the answer, and nothing else, inside \\boxed{}.",
        "golongrl_matching": _ITEMS,
        "golongrl_ranking": _ORDERED_ITEMS,
        "golongrl_ordering": _ORDERED_ITEMS,
        "golongrl_summary": prompts.SUMMARY,
        "loongrl_choice": _THINK + "give the letter of the correct choice, and nothing else, inside \\boxed{}.",
    },
    "Chinese": {
        task: _THINK_ZH + instruction
        for task, instruction in {
            "golongrl_retrieval": "写出答案，与原文逐字一致" + _ONLY,
            "golongrl_qa": "先单独用一行写 [答案]，再在下一行按题目要求的格式写出答案" + _ONLY,
            "golongrl_choice": "写出“正确答案是（X）”，其中 X 为正确选项的字母" + _ONLY,
            "golongrl_exhaustive": _LINES + "格式按题目要求" + _ONLY,
            "golongrl_math": "把答案写在 \\boxed{} 中，框内不要写任何其他内容。",
            "golongrl_matching": _LINES + "格式按题目要求" + _ONLY,
            "golongrl_ranking": _LINES + "格式和顺序按题目要求" + _ONLY,
            "golongrl_ordering": _LINES + "格式和顺序按题目要求" + _ONLY,
            "golongrl_summary": "先单独用一行写 [答案]，再在其下写出摘要" + _ONLY,
        }.items()
    },
}


def answer_instruction(task: str, language: str) -> str:
    """How to answer a task (a data source such as golongrl_qa), unless it is a table."""
    return _ANSWER_AS[language][task]


def table_instruction(columns: Sequence[str], language: str) -> str:
    """How to answer with a table of these columns."""
    if language == "English":
        return prompts.answer_table(columns)
    names = "、".join(f'"{name}"' for name in columns)
    return (
        _THINK_ZH + '以 JSON 格式给出表格，写成 <answer>{"columns": [...], "data": [[...], [...]]}</answer>，'
        f"其中 columns 依次为 {names}，data 中每一行是一个列表，单元格按列的顺序排列。"
    )


def question_about(shown: str, between: tuple[str, str], question: str, answer: str) -> list[dict[str, str]]:
    """The conversation: a text or tables, between their opening and closing, a question about them, how to answer."""
    opening, closing = between
    return [{"role": "user", "content": f"{opening}{shown}{closing}{question}\n\n{answer}"}]
