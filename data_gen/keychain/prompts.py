"""What a model is shown: numbered passages, and either the question or the key at which its chain begins.

The wording is this project's own. Everything the model needs is in the user's turn, so a row means the same under any
chat template. Parts are made to be counted apart: a passage ends with an empty line and what follows begins with a
letter, and an identifier always stands in quotes after a space, where byte-level tokenizers begin a new token.
"""

from __future__ import annotations

import json

OPENING = "Read the following passages.\n\n"
ANSWER = (
    "Think step by step first and end your reasoning with </think>. Then give the final answer, as short as possible, "
    "inside \\boxed{}."
)


def messages(text: str) -> list[dict[str, str]]:
    """The conversation with this text as the user's turn."""
    return [{"role": "user", "content": text}]


def heading(number: int) -> str:
    """What stands above passage `number` (from 1)."""
    return f"Passage {number}:\n"


def link(key: str, value: str) -> str:
    """One pair of a chain as it stands between two sentences: a space, an object of valid JSON, a full stop."""
    return f' {{"{key}": {json.dumps(value, ensure_ascii=False)}}}.'


def keychain_question(head: str) -> str:
    """The task at the end of a KeyChain prompt."""
    return (
        'Pairs of a key and a value, written {"key": "value"}, are hidden between the sentences above. The value of '
        "a pair is the key of another pair, or a question. "
        f'Begin with the key "{head}" and follow the pairs from value to key until the value is a question. '
        f"Answer that question, and no other, from the passages.\n\n{ANSWER}"
    )


def plain_question(question: str) -> str:
    """The task at the end of a prompt without chains."""
    return f"Answer this question from the passages above.\n\nQuestion: {question}\n\n{ANSWER}"
