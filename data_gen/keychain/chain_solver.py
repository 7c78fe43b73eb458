"""Prove that a KeyChain prompt has exactly one solution, from the final text alone.

The solver finds every pair by its form, begins at the key that the task names, and follows values to keys. A prompt is
sound when that leads to exactly one question, through keys that have one value each, and when no other chain leads to
that question.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass

_PAIR = re.compile(r'\{"[0-9a-f-]{8,36}": "(?:[^"\\]|\\.)*"\}')
_KEY = re.compile(r"[0-9a-f]{8}|[0-9a-f-]{36}")
_FIRST_KEY = re.compile(r'Begin with the key "([^"]+)"')


class UnsoundChain(ValueError):
    """The prompt does not lead to exactly one question; the message says why."""


@dataclass(frozen=True)
class Solution:
    """The question, the keys that lead to it in order, and the number of pairs in the prompt."""

    question: str
    keys: tuple[str, ...]
    pairs: int


def solve_chain(prompt: str) -> Solution:
    """Follow the chain of a prompt.

    Raises UnsoundChain when it breaks, forks, loops, or when another chain ends in the same question.
    """
    pairs = [pair for text in _PAIR.findall(prompt) for pair in _read_pair(text)]
    first_keys = _FIRST_KEY.findall(prompt)
    if not first_keys:
        raise UnsoundChain("the prompt names no key to begin with")
    values: dict[str, list[str]] = defaultdict(list)
    origins: dict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
        origins[value].append(key)
    keys, current = [], first_keys[-1]  # the task is at the end: a passage may contain the same words
    while current in values:
        if current in keys:
            raise UnsoundChain(f"the chain loops at {current}")
        if len(values[current]) > 1:
            raise UnsoundChain(f"{current} has {len(values[current])} values")
        keys.append(current)
        current = values[current][0]
    if not keys:
        raise UnsoundChain(f"no pair has the key {current}, at which the chain begins")
    if _KEY.fullmatch(current):
        raise UnsoundChain(f"the chain ends in the key {current}, which no pair has")
    for target, origin in zip((*keys[1:], current), keys, strict=True):
        if origins[target] != [origin]:
            raise UnsoundChain(f"{target!r} is reached from {origins[target]}, not only from {origin}")
    if keys[0] in origins:
        raise UnsoundChain(f"the chain's first key is the value of {origins[keys[0]]}")
    return Solution(current, tuple(keys), len(pairs))


def looks_like_chain(text: str) -> bool:
    """Whether a reader could take this text for part of a chain; such text is kept out of prompts."""
    return bool(_PAIR.search(text) or _FIRST_KEY.search(text) or _KEY.fullmatch(text.strip()))


def _read_pair(text: str) -> list[tuple[str, str]]:
    """The key and value of a text in the form of a pair; [] if it is not valid JSON."""
    try:
        return list(json.loads(text).items())
    except ValueError:
        return []
