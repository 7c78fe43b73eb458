"""Hold questions out for validation so that training shares none of their evidence.

Questions with a passage of evidence, or an article, in common are in one group, and so are questions that are connected
through others. Whole groups are held out, in an order that depends only on the seed, as long as they fit into the
share; if none fits, the smallest one is. Passages with evidence of one file may be distractors in the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from data_gen.config import ConfigError
from data_gen.text import digest


def hold_out_evidence(
    evidence: Mapping[str, Sequence[str]], rows: Mapping[str, int], fraction: float, seed: int
) -> set[str]:
    """The questions to hold out.

    Args:
        evidence: question -> what it must not share with a question of the other file.
        rows: question -> its number of rows.
        fraction: the share of rows to hold out, at least one question if it is above 0.

    Raises ConfigError when all questions are connected, so that none could be held out.
    """
    if not fraction or len(evidence) < 2:
        return set()
    groups = connected_groups(evidence)
    if len(groups) == 1:
        raise ConfigError(
            f"export.val_fraction = {fraction}: all {len(evidence)} questions share evidence or an article with one "
            "another, so none can be held out. Fix: set export.val_fraction=0 and validate on other data, or give "
            "more files"
        )
    groups.sort(key=lambda group: digest(seed, "split", min(group)))
    room = fraction * sum(rows.values())
    held_out: set[str] = set()
    for group in groups:
        size = sum(rows[name] for name in group)
        if size <= room:
            held_out.update(group)
            room -= size
    return held_out or set(min(groups, key=lambda group: sum(rows[name] for name in group)))


def connected_groups(evidence: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The questions in groups of those that are connected by a key."""
    questions_of: dict[str, list[str]] = defaultdict(list)
    for name, keys in evidence.items():
        for key in keys:
            questions_of[key].append(name)
    groups: list[list[str]] = []
    seen: set[str] = set()
    for name in evidence:
        if name in seen:
            continue
        seen.add(name)
        group = [name]
        for member in group:
            # The group grows while it is read, until nothing else is connected.
            for key in evidence[member]:
                for other in questions_of.pop(key, ()):
                    if other not in seen:
                        seen.add(other)
                        group.append(other)
        groups.append(group)
    return groups
