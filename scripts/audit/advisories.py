"""Check known advisories about the locked packages against the decisions in requirements/advisories.toml.

    python scripts/audit/advisories.py             affected versions may be locked only with a reason in the file
    python scripts/audit/advisories.py REPORT...   and pip-audit (its JSON reports) may not find others

So a new advisory fails no tests before somebody has decided about it. Status 1: there is something to decide; 3: there
is not, but pip-audit could not look up some packages.
"""

import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locks import REQUIREMENTS, canonical_name, read_locks
from packaging.specifiers import SpecifierSet


@dataclass(frozen=True)
class Advisory:
    """One entry of advisories.toml."""

    ids: list[str]
    """All its identifiers: CVE, GHSA, PYSEC."""
    packages: list[str]
    affected: str
    """A version specifier."""
    what: str
    reason: str = ""
    """Why affected versions may be locked."""

    def hits(self, package: str, version: str) -> bool:
        """Whether this version is affected."""
        return package in self.packages and SpecifierSet(self.affected).contains(version, prereleases=True)


def find_undecided(advisories: list[Advisory]) -> Iterator[str]:
    """Affected locked versions without a reason, and reasons that are no longer needed."""
    for advisory in advisories:
        hits = [
            f"requirements/{file} has {package} {version}"
            for file, pins in read_locks().items()
            for package, version in pins
            if advisory.hits(package, version)
        ]
        name = advisory.ids[0]
        if hits and not advisory.reason:
            yield f"{', '.join(hits)}: {name}, {advisory.what}. Fix: lock a version that is not {advisory.affected}"
        if advisory.reason and not hits:
            yield f"{name} no longer affects a lock. Fix: remove its reason from requirements/advisories.toml"


def find_unknown(report: dict[str, Any], advisories: list[Advisory]) -> Iterator[str]:
    """Advisories in a report of pip-audit that are not in the file."""
    known = {name for advisory in advisories for name in advisory.ids}
    for dependency in report["dependencies"]:
        for vulnerability in dependency.get("vulns", []):
            names = [vulnerability["id"], *vulnerability["aliases"]]
            if known.isdisjoint(names):
                fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
                finding = f"{dependency['name']} {dependency['version']}: {', '.join(names)}, fixed in {fixed}"
                yield f"{finding}. Fix: lock a fixed version, or decide in requirements/advisories.toml"


def main(reports: list[str]) -> int:
    """Print what must be decided. Returns the exit status."""
    entries = tomllib.loads((REQUIREMENTS / "advisories.toml").read_text())["advisory"]
    advisories = [Advisory(**entry) for entry in entries]
    problems, not_audited = list(find_undecided(advisories)), set()
    for path in reports:
        report = json.loads(Path(path).read_text())
        problems += find_unknown(report, advisories)
        not_audited |= {canonical_name(each["name"]) for each in report["dependencies"] if "skip_reason" in each}
    print("\n".join(problems or ["all known advisories about locked packages are decided"]))
    if not_audited:
        print(f"not looked up, so their advisories are unknown: {', '.join(sorted(not_audited))}")
    return 1 if problems else 3 if not_audited else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
