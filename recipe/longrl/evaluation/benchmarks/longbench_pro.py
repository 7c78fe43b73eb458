"""LongBench-Pro (arXiv 2601.02872): 1,500 bilingual tasks of 25 kinds on texts of 8K to 256K tokens.

The prompt is the context, four line ends and the question, as in caskcsg/longcontext. Models that think get
`question_nonthinking`, others `question_thinking`, which asks for steps. The official output limits are 1,024 tokens,
8,192 for models that think and 32,768 for windows of at least 256K; max_tokens sets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recipe.longrl.evaluation.benchmarks.local_files import cluster_of, find_files, read_rows, user_message
from recipe.longrl.evaluation.records import NO_DOCUMENT, Row

ORIGIN = "longbench_pro.json of caskcsg/LongBench-Pro from the Hugging Face hub"
LENGTHS = {"8k": 8192, "16k": 16384, "32k": 32768, "64k": 65536, "128k": 131072, "256k": 262144}
MAX_TOKENS = 1024


def longbench_pro_rows(
    *,
    path: str | None = None,
    lengths: Sequence[int] = tuple(LENGTHS.values()),
    tasks: Sequence[str] = (),
    thinking: bool = True,
    max_tokens: int = MAX_TOKENS,
) -> Iterator[Row]:
    """Rows of longbench_pro.json.

    Args:
        lengths: only these length classes in tokens.
        tasks: only primary tasks that begin with one of these, such as T3; all if empty.
        thinking: whether the model thinks by itself.

    Raises:
        DataError: no file, or a row without one of its fields.
    """
    for file in find_files(path, "longbench_pro", "longbench_pro.json*", ORIGIN):
        for row in read_rows(file):
            task, length = row.text("primary_task"), LENGTHS[row.choice("token_length", tuple(LENGTHS))]
            if length not in lengths or (tasks and not task.startswith(tuple(tasks))):
                continue
            context = row.text("context")
            question = row.text("question_nonthinking" if thinking else "question_thinking")
            yield Row(
                id=row.text("id"),
                messages=user_message(f"{context}\n\n\n\n{question}"),
                gold=row.texts("answer"),
                max_tokens=max_tokens,
                cell=f"{task}/{length}",
                length=length,
                cluster=cluster_of(context),
                closed_book=user_message(f"{NO_DOCUMENT}\n\n\n\n{question}"),
                meta={
                    "question": question,
                    "language": row.choice("language", ("English", "Chinese")),
                    **{
                        name: row.text(name)
                        for name in ("primary_task", "secondary_task", "difficulty", "contextual_requirement")
                    },
                },
            )
