"""What the nodes found, as few lines: what all say is said once, and a node that deviates is named."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from recipe.longrl.preflight.check import Check, Status

NAMED = 8  # nodes named in one line


@dataclass(frozen=True)
class Finding:
    """One thing seen on one node.

    detail: in words, with `{}` for each of the `values`, numbers in which nodes may differ and still be said in one
    line. uniform: a node whose detail is not that of the others is worth a warning, though it is well by itself.
    """

    name: str
    status: Status
    detail: str
    values: tuple[float, ...] = ()
    uniform: bool = False


def merge(found: Mapping[str, Sequence[Finding]]) -> Iterator[Check]:
    """The lines of all findings, node -> what was found there, in the order of the looks."""
    for name in dict.fromkeys(finding.name for findings in found.values() for finding in findings):
        groups: dict[tuple[Status, str, bool], dict[str, tuple[float, ...]]] = defaultdict(dict)
        for node, findings in found.items():
            for finding in findings:
                if finding.name == name:
                    groups[finding.status, finding.detail, finding.uniform][node] = finding.values
        usual = Counter({detail: len(nodes) for (_, detail, uniform), nodes in groups.items() if uniform})
        for (status, detail, uniform), nodes in groups.items():
            text = f"{_who(nodes, len(found))}: {_filled(detail, list(nodes.values()))}"
            if uniform and len(usual) > 1:
                status, text = _odd_one(detail, text, usual)
            yield Check(f"nodes: {name}", status, text)


def _odd_one(detail: str, text: str, usual: Counter[str]) -> tuple[Status, str]:
    """The line of a group that should be all nodes and is not."""
    common, count = usual.most_common(1)[0]
    if detail == common:
        return "ok", text
    others = "another has" if count == 1 else f"{count} others have"
    return "warn", f"{text}; {others} {common}. Fix: make them the same, or leave these nodes out of the cluster"


def _who(nodes: Mapping[str, object], of: int) -> str:
    if len(nodes) == of > 1:
        return f"{of} nodes"
    named = list(nodes)[:NAMED]
    return ", ".join(named) + (f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else "")


def _filled(detail: str, values: list[tuple[float, ...]]) -> str:
    """The detail with its numbers, or with the range of each over the nodes."""
    for place in zip(*values, strict=True):
        least, most = _number(min(place)), _number(max(place))
        detail = detail.replace("{}", least if least == most else f"{least} to {most}", 1)
    return detail


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}"
