"""The five English QA sets of LongBench v1 (arXiv 2308.14508) that the papers report, 200 questions each.

Prompts "official" are those of THUDM/LongBench (config/dataset2prompt.json, MIT; "asconcisely" is in the original).
"qwenlong" is that of QwenLong-L1 (github.com/Tongyi-Zhiwen/QwenLong-L1), which GoLongRL uses. Results of different
prompts and rules cannot be compared.

Known: some questions of Qasper ask about tables that the context lacks. HotpotQA, 2WikiMultihopQA and MuSiQue are
LoongRL's training sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from recipe.longrl.evaluation.benchmarks.local_files import (
    check_tasks,
    cluster_of,
    find_task_files,
    read_rows,
    user_message,
)
from recipe.longrl.evaluation.benchmarks.qwenlong_prompt import qwenlong_prompt
from recipe.longrl.evaluation.records import NO_DOCUMENT, Row

ORIGIN = "data.zip of zai-org/LongBench from the Hugging Face hub, unpacked,"

_STORY = "using a single phrase if possible. Do not provide any explanation."
_ARTICLE = (
    "nswer the question {above}as concisely as you can, using a single phrase or sentence if possible. If the question "
    'cannot be answered based on the information in the article, write "unanswerable". If the question is a yes/no '
    'question, answer "yes", "no", or "unanswerable". Do not provide any explanation.'
)
_PASSAGES = (
    "Answer the question based on the given passages. Only give me the answer and do not output any other words."
)
_MULTIHOP = (
    f"{_PASSAGES}\n\nThe following are given passages.\n{{context}}\n\n{_PASSAGES}\n\nQuestion: {{question}}\nAnswer:"
)
PROMPTS = {
    "narrativeqa": "You are given a story, which can be either a novel or a movie script, and a question. Answer the "
    f"question asconcisely as you can, {_STORY}\n\nStory: {{context}}\n\nNow, answer the question based on the story "
    f"asconcisely as you can, {_STORY}\n\nQuestion: {{question}}\n\nAnswer:",
    "qasper": f"You are given a scientific article and a question. A{_ARTICLE.format(above='')}\n\nArticle: "
    f"{{context}}\n\n A{_ARTICLE.format(above='based on the above article ')}\n\nQuestion: {{question}}\n\nAnswer:",
    "hotpotqa": _MULTIHOP,
    "2wikimqa": _MULTIHOP,
    "musique": _MULTIHOP,
}
MAX_TOKENS = {"narrativeqa": 128, "qasper": 128, "hotpotqa": 32, "2wikimqa": 32, "musique": 32}


def longbench_v1_qa_rows(
    *,
    path: str | None = None,
    tasks: Sequence[str] = tuple(PROMPTS),
    prompt: Literal["official", "qwenlong"] = "official",
) -> Iterator[Row]:
    """Rows of narrativeqa.jsonl and the others.

    Raises:
        DataError: no file, or a row without one of its fields.
    """
    check_tasks(tasks, tuple(PROMPTS))
    patterns = {task: f"**/{task}.jsonl" for task in tasks}
    for task, file in find_task_files(path, "longbench_v1_qa", patterns, ORIGIN):
        for row in read_rows(file):
            question, context = row.text("input"), row.text("context")
            fill: Callable[..., str] = qwenlong_prompt if prompt == "qwenlong" else PROMPTS[task].format
            yield Row(
                id=f"{task}/{row.text('_id')}",
                messages=user_message(fill(context=context, question=question)),
                gold=row.texts("answers"),
                max_tokens=MAX_TOKENS[task],
                cell=task,
                cluster=cluster_of(context),
                closed_book=user_message(fill(context=NO_DOCUMENT, question=question)),
                meta={"question": question, "words": row.integer("length")},
            )
