"""Compare what is known against the locked packages with what was decided in requirements/advisories.toml.

    python scripts/audit/advisories.py             nothing that the file knows may be locked without a reason
    python scripts/audit/advisories.py REPORT...   nor may pip-audit (its JSON reports) know what the file does not

So a new advisory turns nobody's tests red before somebody has decided about it. Status 1: something to decide; 3:
nothing to decide, but packages that pip-audit could not look up.
"""

import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locks import REQUIREMENTS, canonical, locked
from packaging.specifiers import SpecifierSet


@dataclass(frozen=True)
class Advisory:
    """One entry of advisories.toml."""

    ids: list[str]
    """All its names: CVE, GHSA, PYSEC."""
    packages: list[str]
    affected: str
    """Versions, as pip writes them."""
    what: str
    reason: str = ""
    """Why affected versions may stay."""

    def hits(self, package: str, version: str) -> bool:
        """Whether this version is affected."""
        return package in self.packages and SpecifierSet(self.affected).contains(version, prereleases=True)


def undecided(advisories: list[Advisory]) -> Iterator[str]:
    """Locked versions that are affected without a reason, and reasons that nothing needs any more."""
    for advisory in advisories:
        hits = [
            f"requirements/{file} has {package} {version}"
            for file, pins in locked().items()
            for package, version in pins
            if advisory.hits(package, version)
        ]
        name = advisory.ids[0]
        if hits and not advisory.reason:
            yield f"{', '.join(hits)}: {name}, {advisory.what}; lock a version that is not {advisory.affected}"
        if advisory.reason and not hits:
            yield f"{name} affects no lock any more; remove its reason from requirements/advisories.toml"


def unknown(report: dict[str, Any], advisories: list[Advisory]) -> Iterator[str]:
    """What pip-audit found that the file does not have."""
    known = {name for advisory in advisories for name in advisory.ids}
    for dependency in report["dependencies"]:
        for found in dependency.get("vulns", []):
            names = [found["id"], *found["aliases"]]
            if known.isdisjoint(names):
                fixed = ", ".join(found["fix_versions"]) or "no version"
                what = f"{dependency['name']} {dependency['version']}: {', '.join(names)}, fixed in {fixed}"
                yield f"{what}; lock a fixed version, or decide in requirements/advisories.toml"


def main(reports: list[str]) -> int:
    """Print what is to be done; the exit status."""
    entries = tomllib.loads((REQUIREMENTS / "advisories.toml").read_text())["advisory"]
    advisories = [Advisory(**entry) for entry in entries]
    problems, not_audited = list(undecided(advisories)), set()
    for path in reports:
        report = json.loads(Path(path).read_text())
        problems += unknown(report, advisories)
        not_audited |= {canonical(each["name"]) for each in report["dependencies"] if "skip_reason" in each}
    print("\n".join(problems or ["nothing that is known against a locked package is undecided"]))
    if not_audited:
        print(f"not looked up, so nothing is known of them: {', '.join(sorted(not_audited))}")
    return 1 if problems else 3 if not_audited else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
