"""Prompts of the keychain pipeline: numbered passages, and a question, the first key of a chain, or a needle to find.

The wording is this project's own. Everything the model needs is in the user's turn, so a row means the same under any
chat template. The parts of a prompt are worded so that their tokens can be counted separately: a passage ends with an
empty line and the next part begins with a letter, and an identifier is always in quotes after a space, where byte-level
tokenizers begin a new token. tests/data_gen/snapshots shows every prompt as a model reads it.
"""

from __future__ import annotations

import json

from data_gen.answer_templates import THINK_FIRST

OPENING = "Read the following passages.\n\n"
_THINK = THINK_FIRST["English"]
ANSWER = _THINK + "give the final answer, as short as possible, inside \\boxed{}."
ALL_ANSWERS = (
    _THINK + "give everything that answers the question, exactly as it is written above, separated by commas and with "
    "nothing else, inside \\boxed{}."
)

FILED = "One {thing} filed under {key} is {value}."
"""A needle: a key and one of its values, as a sentence. It leaves open whether the key has other values."""
WHICH_ONE = "Which {thing} is filed under {key}?"
WHICH_ALL = "Which {thing}s are filed under {key}?"
FACTS = (
    ("{key} found the {value} at the bottom of the well.", "What did {key} find at the bottom of the well?"),
    ("{key} traded an old bicycle for the {value}.", "What did {key} trade an old bicycle for?"),
    ("{key} wrapped the {value} in yesterday's newspaper.", "What did {key} wrap in yesterday's newspaper?"),
    ("{key} hid the spare key under the {value}.", "What did {key} hide the spare key under?"),
    ("{key} left the {value} on the night ferry.", "What did {key} leave on the night ferry?"),
    ("{key} carved two initials into the {value}.", "What did {key} carve two initials into?"),
    ("{key} won the {value} in a village raffle.", "What did {key} win in a village raffle?"),
    ("{key} buried the {value} beside the lighthouse.", "What did {key} bury beside the lighthouse?"),
)
"""Needles in plain words, each with its question; the key is a person's name."""


def messages(text: str) -> list[dict[str, str]]:
    """The conversation with this text as the user's turn."""
    return [{"role": "user", "content": text}]


def heading(number: int) -> str:
    """The line above passage `number` (from 1)."""
    return f"Passage {number}:\n"


def link(key: str, value: str) -> str:
    """One pair of a chain as it is inserted between two sentences: a space, an object of valid JSON, a full stop."""
    return f' {{"{key}": {json.dumps(value, ensure_ascii=False)}}}.'


def keychain_question(first_key: str) -> str:
    """The task at the end of a KeyChain prompt."""
    return (
        'Key-value pairs, written as {"key": "value"}, are hidden between the sentences above. The value of each pair '
        "is either the key of another pair or a question. "
        f'Begin with the key "{first_key}" and follow the pairs from value to key until you reach a question. '
        f"Answer that question, and no other, using the passages.\n\n{ANSWER}"
    )


def plain_question(question: str) -> str:
    """The task at the end of a prompt without chains."""
    return f"Answer the following question using the passages above.\n\nQuestion: {question}\n\n{ANSWER}"


def needle_question(question: str, needles: int) -> str:
    """The task at the end of a prompt into which this many sentences were inserted."""
    if needles == 1:
        task = (
            "One of the sentences above was inserted and does not belong to any passage. Answer the question using "
            "only that sentence."
        )
    else:
        task = (
            "Some of the sentences above were inserted and do not belong to any passage. Answer the question using "
            "only those sentences."
        )
    return f"{task}\n\nQuestion: {question}\n\n{ALL_ANSWERS}"
