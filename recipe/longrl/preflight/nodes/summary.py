"""Merge the lines of all nodes: nodes with the same result share a line, and a node that deviates is named."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from recipe.longrl.preflight.check import Check, Status

MAX_NAMED = 8
MUST_BE_EQUAL = ("GPU kind",)
"""Lines that are a warning, though fine on each node, where the nodes differ in them."""


def merge_node_checks(checks_of_nodes: Mapping[str, Sequence[Check]]) -> Iterator[Check]:
    """The lines of the table, in the order of the probes. checks_of_nodes: name of a node -> its lines."""
    nodes_with: dict[str, dict[tuple[Status, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for node, checks in checks_of_nodes.items():
        for check in dict.fromkeys(checks):
            nodes_with[check.name][check.status, check.detail].append(node)
    for name, results in nodes_with.items():
        differ = name in MUST_BE_EQUAL and len(results) > 1
        for (status, detail), nodes in results.items():
            line = f"{_list_nodes(nodes, len(checks_of_nodes))}: {detail}"
            if differ and status == "ok":
                fix = "make the nodes the same, or leave some of them out of the cluster"
                status, line = "warn", f"{line}, but the nodes differ. Fix: {fix}"
            yield Check(f"nodes: {name}", status, line)


def _list_nodes(nodes: Sequence[str], total: int) -> str:
    if len(nodes) == total > 1:
        return f"all {total} nodes"
    more = f" and {len(nodes) - MAX_NAMED} more" if len(nodes) > MAX_NAMED else ""
    return ", ".join(nodes[:MAX_NAMED]) + more
