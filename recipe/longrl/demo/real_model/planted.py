"""Questions about facts that are planted into passages of HotpotQA, as JSON Lines for `data_gen.grounded_qa`.

Every passage of a document has one fact of the same kind about a place of its own ("The access code of the mill is
7697."). A question asks for two of them, so an answer is right only if two chunks were found. The surrounding text is
real, and facts of other places are the distractors.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_gen.store import write_atomically

# fmt: off
PLACES = (
    "mill", "tower", "harbour", "library", "bakery", "chapel", "museum", "station", "orchard", "quarry", "castle",
    "bridge", "school", "theatre", "market", "farm", "lighthouse", "hospital", "garden", "brewery", "factory", "hotel",
    "stadium", "palace", "prison", "church", "airport", "bank", "mine", "forge", "stable", "cinema", "gallery",
    "monastery", "observatory", "shipyard",
)
# fmt: on
KINDS = ("access code", "inventory number", "storage limit", "visitor count", "permit number", "postal code")
FACTS = 2
"""Facts that a question asks for."""
WORDS = (12, 26)
"""Fewest and most words of the real sentences around a fact."""


def write_questions(hotpotqa: Path, target: Path, *, questions: int, passages: int, seed: str) -> None:
    """Write `questions` questions about documents of `passages` passages to `target`. hotpotqa: the released file."""
    draw = random.Random(f"planted-{seed}")
    openings = sorted(_read_openings(hotpotqa))
    lines = [json.dumps(_question(draw, openings, passages)) + "\n" for _ in range(questions)]
    write_atomically(target, [line.encode() for line in lines])


def _read_openings(hotpotqa: Path) -> set[tuple[str, str]]:
    """The first two sentences of every passage, where they have about as many words as others."""
    openings = set()
    for question in json.loads(hotpotqa.read_bytes()):
        for _, sentences in question["context"]:
            first, second, *_ = [*map(str.strip, sentences), "", ""]
            if first and second and WORDS[0] <= len(f"{first} {second}".split()) <= WORDS[1]:
                openings.add((first, second))
    return openings


def _question(draw: random.Random, openings: Sequence[tuple[str, str]], passages: int) -> dict[str, Any]:
    kind, places = draw.choice(KINDS), draw.sample(PLACES, passages)
    values = draw.sample(range(1000, 10000), passages)
    facts = [f"The {kind} of the {place} is {value}." for place, value in zip(places, values, strict=True)]
    rows = []
    for fact, sentences in zip(facts, draw.sample(openings, passages), strict=True):
        at = draw.randrange(1, len(sentences) + 1)
        rows.append({"text": " ".join([*sentences[:at], fact, *sentences[at:]])})
    asked = draw.sample(range(passages), FACTS)
    named = " and of ".join(f"the {places[at]}" for at in asked)
    return {
        "question": f"What are the {kind}s of {named}?",
        "answer": " and ".join(str(values[at]) for at in asked),
        "passages": rows,
        "evidence": [facts[at] for at in asked],
    }
