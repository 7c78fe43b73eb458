"""LongBench v2 (arXiv 2412.15204): 503 multiple-choice questions about texts of 8K to 2M words.

Prompts are the official ones of THUDM/LongBench (prompts/0shot.txt and 0shot_no_context.txt, MIT), filled in one pass:
the official code replaces one placeholder after another, and so rewrites a context that contains `$Q$`. The official
chain-of-thought protocol asks twice and is not offered.

The official code cuts prompts of more than 120,000 tokens in the middle; here that is the run's policy for prompts over
the window. Known: the official script leaves rows without a response out of the file, and so out of its mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from recipe.longrl.evaluation.benchmarks.local_files import cluster_of, find_files, read_rows, user_message
from recipe.longrl.evaluation.records import Row

ORIGIN = "data.json of zai-org/LongBench-v2 from the Hugging Face hub"
MAX_TOKENS = 128
LETTERS = ("A", "B", "C", "D")
LENGTHS = ("short", "medium", "long")

_CHOICES = "\n\nWhat is the correct answer to this question: {question}\nChoices:\n{choices}\n\n"
PROMPTS = {
    "official": "Please read the following text and answer the question below.\n\n<text>\n{context}\n</text>"
    + _CHOICES
    + 'Format your response as follows: "The correct answer is (insert answer here)".',
    "closed_book": _CHOICES.lstrip()
    + "What is the single, most likely answer choice? Format your response as follows: "
    + '"The correct answer is (insert answer here)".',
}


def longbench_v2_rows(
    *, path: str | None = None, prompt: Literal["official", "closed_book"] = "official"
) -> Iterator[Row]:
    """Rows of data.json.

    Args:
        path: the file or its folder.
        prompt: closed_book asks without the text, to see how much a model knows.

    Raises:
        DataError: no file, or a row without one of its fields.
    """
    for file in find_files(path, "longbench_v2", "data.json*", ORIGIN):
        for row in read_rows(file):
            question, context = row.text("question").strip(), row.text("context").strip()
            options = {letter: row.text(f"choice_{letter}").strip() for letter in LETTERS}
            choices = "\n".join(f"({letter}) {text}" for letter, text in options.items())
            length = row.choice("length", LENGTHS)
            asked, closed_book = (
                user_message(PROMPTS[name].format(context=context, question=question, choices=choices))
                for name in (prompt, "closed_book")
            )
            yield Row(
                id=row.text("_id"),
                messages=asked,
                gold=row.choice("answer", LETTERS),
                max_tokens=MAX_TOKENS,
                cell=length,
                cluster=cluster_of(context),
                closed_book=closed_book,
                meta={
                    "question": question,
                    "options": options,
                    **{name: row.text(name) for name in ("domain", "sub_domain", "difficulty")},
                },
            )
