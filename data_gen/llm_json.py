"""Read the JSON object in a model's reply, ignoring reasoning, fences and prose around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from verl_longrl.rewards.matching.response_format import visible_text

_FENCE = re.compile(r"```(?:json|JSON)?\s*\n(.*?)```", re.DOTALL)
# strict=False, because models write raw line breaks inside strings.
_DECODER = json.JSONDecoder(strict=False)
MAX_STARTS = 2000
"""Opening braces at which an object is tried, at most: bounds the time for replies full of braces."""


class UnreadableReply(ValueError):
    """The reply has no JSON object with the expected keys; the message quotes its end."""


class BrokenRule(ValueError):
    """A reply that breaks a rule of its prompt; the message is "STATUS: DETAIL"."""

    @property
    def status(self) -> str:
        """One word, to count it by."""
        return str(self).partition(": ")[0]

    @property
    def detail(self) -> str:
        """The offending part of the reply."""
        return str(self).partition(": ")[2]


def final_text(reply: str) -> str:
    """The reply without its reasoning, stripped.

    Raises UnreadableReply when the reasoning never ended.
    """
    text, error = visible_text(reply)
    if error:
        raise UnreadableReply(error)
    return text.strip()


def read_json(reply: str, keys: Iterable[str], finish_reason: str = "stop") -> dict[str, Any]:
    """The last JSON object in the reply that has all `keys`, in a fence or outside.

    Raises:
        UnreadableReply: there is no such object, or the reply was cut off.
    """
    if finish_reason == "length":
        raise UnreadableReply(f"cut off at max_tokens; it ends {reply[-80:]!r}")
    text, required = final_text(reply), set(keys)
    for block in (*reversed(_FENCE.findall(text)), text):
        for candidate in _objects(block):
            if required <= set(candidate):
                return candidate
    raise UnreadableReply(f"no JSON object with the keys {', '.join(sorted(required))}; the reply ends {text[-120:]!r}")


def _objects(text: str) -> Iterable[dict[str, Any]]:
    """Outermost JSON objects in `text`, the last one first."""
    objects: list[dict[str, Any]] = []
    position = tried = 0
    while (start := text.find("{", position)) >= 0 and tried < MAX_STARTS:
        tried += 1
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
        else:
            objects.append(value)
    return reversed(objects)
