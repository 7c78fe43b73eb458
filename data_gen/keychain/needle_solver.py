"""Prove that a retrieval prompt has exactly one answer, from the final text alone.

The solver knows how needles are worded and nothing else. It reads the question, and then every sentence that states
something about the key in it. A prompt is sound when there are as many such sentences as the question asks for (one, or
all there are), and when none of their values appears anywhere else.
"""

from __future__ import annotations

import re

from data_gen.keychain import prompts

_FORMS = ((prompts.FILED, prompts.WHICH_ONE), (prompts.FILED, prompts.WHICH_ALL), *prompts.FACTS)
_NAME = r"([\w-]+(?: [\w-]+)?)"


class UnsoundNeedles(ValueError):
    """The prompt does not have exactly the answer that its question asks for; the message says why."""


def find_values(prompt: str) -> tuple[str, ...]:
    """The values that answer the prompt's question, in the order in which they appear in it.

    Raises UnsoundNeedles when there are none, several where the question asks for one, or one that appears twice.
    """
    question = prompt.rpartition("\nQuestion: ")[2].partition("\n")[0]
    for statement, template in _FORMS:
        if match := _pattern(template).fullmatch(question):
            values = tuple(_pattern(statement, key=re.escape(match[1])).findall(prompt))
            break
    else:
        raise UnsoundNeedles(f"no needle answers {question[:200]!r}; expected one of the known questions")
    if not values:
        raise UnsoundNeedles(f"no sentence answers {question!r}")
    if len(values) > 1 and template != prompts.WHICH_ALL:
        raise UnsoundNeedles(f"{len(values)} sentences answer {question!r}, which asks for one: {', '.join(values)}")
    text = prompt.encode("utf-8", "replace").lower()
    for value in values:
        word = value.lower().encode()
        # Counting bytes is fast. Only where they occur again must it be known whether as a word of its own.
        if text.count(word) > 1 and len(re.findall(rb"(?<!\w)" + re.escape(word) + rb"(?!\w)", text)) > 1:
            raise UnsoundNeedles(f"{value!r}, which answers {question!r}, appears in the prompt more than once")
    return values


def _pattern(template: str, key: str = _NAME) -> re.Pattern[str]:
    """Matches a filled-in template of `prompts`, with any value and thing."""
    pattern = re.escape(template)
    for name, inside in (("thing", "(?:number|word|UUID)"), ("key", key), ("value", _NAME)):
        pattern = pattern.replace(re.escape(f"{{{name}}}"), inside)
    return re.compile(pattern)
