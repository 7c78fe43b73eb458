"""What a model wrote, read as the JSON object it was asked for: past reasoning, fences and prose around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from verl_longrl.rewards.matching.response_format import visible_text

_FENCE = re.compile(r"```(?:json|JSON)?\s*\n(.*?)```", re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)  # models write raw line breaks inside strings
MAX_STARTS = 2000


class UnreadableReply(ValueError):
    """No JSON object with the expected keys; the message quotes the end of the reply."""


class BrokenRule(ValueError):
    """A reply that breaks a rule of what was asked for; the message is "STATUS: what was found"."""

    @property
    def status(self) -> str:
        """One word, to count it by."""
        return str(self).partition(": ")[0]

    @property
    def detail(self) -> str:
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
    """The last JSON object in the reply that has all `keys`, wherever it stands.

    Raises:
        UnreadableReply: there is none, or the reply was cut off.
    """
    if finish_reason == "length":
        raise UnreadableReply(f"cut off at max_tokens; it ends {reply[-80:]!r}")
    text, wanted = final_text(reply), set(keys)
    for block in (*reversed(_FENCE.findall(text)), text):
        for found in _objects(block):
            if wanted <= set(found):
                return found
    raise UnreadableReply(f"no JSON object with the keys {', '.join(sorted(wanted))}; the reply ends {text[-120:]!r}")


def _objects(text: str) -> Iterable[dict[str, Any]]:
    """Outermost JSON objects in `text`, the last one first; at most MAX_STARTS openings are tried."""
    found: list[dict[str, Any]] = []
    position = tried = 0
    while (start := text.find("{", position)) >= 0 and tried < MAX_STARTS:
        tried += 1
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
        else:
            found.append(value)
    return reversed(found)
