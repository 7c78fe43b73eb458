"""LongBench v2 (arXiv 2412.15204): 503 multiple-choice questions about texts of 8K to 2M words.

Prompts are the official ones of THUDM/LongBench (prompts/0shot.txt and 0shot_no_context.txt, MIT), filled in one pass:
the official code replaces one placeholder after another, and so rewrites a context that contains `$Q$`.

prompt="cot" is the official chain of thought (0shot_cot.txt, 0shot_cot_ans.txt): the first request has the text and
asks for reasoning, the second one has the reasoning and no text, and its answer is scored.

The official code cuts prompts of more than 120,000 tokens in the middle; here that is the run's policy for prompts over
the window. Known: the official script leaves rows without a response out of the file, and so out of its mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from recipe.longrl.evaluation.benchmarks.local_files import cluster_of, find_files, read_rows, user_message
from recipe.longrl.evaluation.records import FollowUp, Row

ORIGIN = "data.json of zai-org/LongBench-v2 from the Hugging Face hub"
MAX_TOKENS = 128
REASONING_TOKENS = 1024
"""Of the first answer of a chain of thought."""
LETTERS = ("A", "B", "C", "D")
LENGTHS = ("short", "medium", "long")

PromptName = Literal["official", "cot", "closed_book"]

_CHOICES = "\n\nWhat is the correct answer to this question: {question}\nChoices:\n{choices}\n\n"
PROMPTS = {
    "official": "Please read the following text and answer the question below.\n\n<text>\n{context}\n</text>"
    + _CHOICES
    + 'Format your response as follows: "The correct answer is (insert answer here)".',
    "cot": "Please read the following text and answer the questions below.\n\n<text>\n{context}\n</text>"
    + _CHOICES
    + "Let’s think step by step:",
    "closed_book": _CHOICES.lstrip()
    + "What is the single, most likely answer choice? Format your response as follows: "
    + '"The correct answer is (insert answer here)".',
}
_BEFORE_REASONING = (
    "Please read the following text and answer the questions below.\n\nThe text is too long and omitted here."
    + _CHOICES
    + "Let’s think step by step: "
)
_AFTER_REASONING = (
    "\n\nBased on the above, what is the single, most likely answer choice? Format your response as follows: "
    '"The correct answer is (insert answer here)".'
)


def longbench_v2_rows(*, path: str | None = None, prompt: PromptName = "official") -> Iterator[Row]:
    """Rows of data.json.

    Args:
        path: the file or its folder.
        prompt: cot asks twice, with a chain of thought between. closed_book asks without the text, to see how much a
            model knows.

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
            before = _BEFORE_REASONING.format(question=question, choices=choices)
            follow_up = FollowUp(before, _AFTER_REASONING, MAX_TOKENS) if prompt == "cot" else None
            yield Row(
                id=row.text("_id"),
                messages=asked,
                gold=row.choice("answer", LETTERS),
                max_tokens=REASONING_TOKENS if follow_up else MAX_TOKENS,
                follow_up=follow_up,
                cell=length,
                cluster=cluster_of(context),
                closed_book=closed_book,
                meta={
                    "question": question,
                    "options": options,
                    **{name: row.text(name) for name in ("domain", "sub_domain", "difficulty")},
                },
            )
