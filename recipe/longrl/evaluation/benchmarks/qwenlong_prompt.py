"""The prompt of QwenLong-L1 (arXiv 2505.17667) for questions about one text, which evalscope and GoLongRL use too."""

from __future__ import annotations


def qwenlong_prompt(context: str, question: str) -> str:
    """The text, the question, and the form of the answer."""
    return (
        f"Please read the following text and answer the question below.\n\n<text>\n{context.strip()}\n</text>\n\n"
        f'{question.strip()}\n\nFormat your response as follows: "Therefore, the answer is (insert answer here)".'
    )
