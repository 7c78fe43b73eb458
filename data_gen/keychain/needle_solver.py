"""The proof that a retrieval prompt has one answer: a reader that knows how needles are worded, and nothing but the
final text.

It reads the question, and then every sentence that tells something about the key in it. A sample is sound when there
are as many as are asked for (one, or all there are), and none of their values stands anywhere else."""

from __future__ import annotations

import re

from data_gen.keychain import prompts

_FORMS = ((prompts.FILED, prompts.WHICH_ONE), (prompts.FILED, prompts.WHICH_ALL), *prompts.FACTS)
_NAME = r"([\w-]+(?: [\w-]+)?)"


class UnsoundNeedles(ValueError):
    """The prompt does not hold the answer it asks for, or not it alone; the message says why."""


def find(prompt: str) -> tuple[str, ...]:
    """The values that answer the prompt's question, in the order in which they stand in it.

    Raises UnsoundNeedles when there are none, several where one is asked for, or one that stands elsewhere too.
    """
    question = prompt.rpartition("\nQuestion: ")[2].partition("\n")[0]
    for statement, asks in _FORMS:
        if asked := _pattern(asks).fullmatch(question):
            values = tuple(_pattern(statement, key=re.escape(asked[1])).findall(prompt))
            break
    else:
        raise UnsoundNeedles(f"no needle answers {question[:200]!r}; it is worded like none of the known questions")
    if not values:
        raise UnsoundNeedles(f"no sentence answers {question!r}")
    if len(values) > 1 and asks != prompts.WHICH_ALL:
        raise UnsoundNeedles(f"{len(values)} sentences answer {question!r}, which asks for one: {', '.join(values)}")
    text = prompt.encode("utf-8", "replace").lower()
    for value in values:
        word = value.lower().encode()
        if text.count(word) > 1 and len(re.findall(rb"(?<!\w)" + re.escape(word) + rb"(?!\w)", text)) > 1:
            raise UnsoundNeedles(f"{value!r}, which answers {question!r}, stands in the prompt more than once")
    return values


def _pattern(template: str, key: str = _NAME) -> re.Pattern[str]:
    """Finds what a template of `prompts` has become, with any value and thing."""
    pattern = re.escape(template)
    for name, inside in (("thing", "(?:number|word|UUID)"), ("key", key), ("value", _NAME)):
        pattern = pattern.replace(re.escape(f"{{{name}}}"), inside)
    return re.compile(pattern)
