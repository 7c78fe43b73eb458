"""What is locked has no known hole without a reason and an accepted licence; the audits tell what has not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_known_is_locked_without_a_reason():
    done = subprocess.run([sys.executable, ROOT / "scripts/audit/advisories.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_locked_package_has_an_accepted_licence():
    done = subprocess.run([sys.executable, ROOT / "scripts/audit/licences.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class Project:
    """A folder with the audits and one lock: leaky 1.5."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.requirements = folder, folder / "requirements"
        shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        self.requirements.mkdir()
        (self.requirements / "cpu.txt").write_text("leaky==1.5 \\\n    --hash=sha256:0\n")

    def knows(self, affected: str, reason: str = "") -> None:
        entry = f'ids = ["CVE-1"]\npackages = ["leaky"]\naffected = "{affected}"\nwhat = "leaks"\n'
        because = f'reason = "{reason}"\n' if reason else ""
        (self.requirements / "advisories.toml").write_text(f"[[advisory]]\n{entry}{because}")

    def audit(self, script: str, *reports: dict[str, Any]) -> tuple[int, str]:
        """Status and what is printed."""
        paths = [self.folder / f"{i}.json" for i in range(len(reports))]
        for path, report in zip(paths, reports, strict=True):
            path.write_text(json.dumps(report))
        command = [sys.executable, self.folder / "scripts" / "audit" / f"{script}.py", *paths]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("affected", "reason", "status", "told"),
    [
        ("<1.5", "", 0, "nothing that is known"),
        ("<2", "", 1, "requirements/cpu.txt has leaky 1.5: CVE-1, leaks; lock a version that is not <2"),
        ("<2", "not reached", 0, "nothing that is known"),
        ("<1.5", "not reached", 1, "CVE-1 affects no lock any more; remove its reason"),
    ],
)
def test_a_locked_hole_needs_a_reason_and_a_reason_a_hole(project: Project, affected, reason, status, told):
    project.knows(affected, reason)
    found, said = project.audit("advisories")
    assert (found, told in said) == (status, True), said


@pytest.mark.parametrize(
    ("dependency", "status", "told"),
    [
        ({"vulns": []}, 0, "nothing that is known"),
        ({"vulns": [{"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": []}]}, 0, "nothing that is known"),
        ({"vulns": [{"id": "CVE-2", "aliases": [], "fix_versions": ["1.6"]}]}, 1, "leaky 1.5: CVE-2, fixed in 1.6"),
        ({"skip_reason": "not found on PyPI"}, 3, "not looked up, so nothing is known of them: leaky"),
    ],
)
def test_what_pip_audit_knows_and_the_table_does_not_is_told(project: Project, dependency, status, told):
    """pip-audit itself says "No known vulnerabilities found" of packages that it could not look up."""
    project.knows("<2", "not reached")
    found, said = project.audit("advisories", {"dependencies": [{"name": "leaky", "version": "1.5", **dependency}]})
    assert (found, told in said) == (status, True), said


def test_without_the_network_an_audit_says_that_it_knows_nothing(project: Project):
    uv = project.folder / "uv"
    uv.write_text(
        '#!/usr/bin/env bash\n[ "$1" = venv ] || exit 0\ntool=${@: -1}/bin/pip-audit\nmkdir -p "${tool%/*}"\n'
        'printf "#!/bin/sh\\necho no network >&2; exit 1" >"$tool"\nchmod +x "$tool"\n'
    )
    uv.chmod(0o755)
    environment = {**os.environ, "PATH": f"{project.folder}:{os.environ['PATH']}"}
    command = ["bash", project.folder / "scripts" / "audit.sh"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 3
    assert "no network\naudit.sh: pip-audit could not look up the packages of requirements/cpu.txt" in done.stdout


def metadata(**said: Any) -> dict[str, Any]:
    """pip's installation report of one package."""
    return {"install": [{"metadata": {"name": "Leaky", "version": "1.5", **said}}]}


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        ({"license_expression": "MIT"}, True),
        ({"license_expression": "MPL-2.0 AND (Apache-2.0 OR MIT)"}, True),
        ({"license": "Apache License, Version 2.0"}, True),
        ({"license": "a text of " + 100 * "words ", "classifier": ["License :: OSI Approved :: BSD License"]}, True),
        ({"classifier": ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]}, False),
        ({"license_expression": "AGPL-3.0-only"}, False),
        ({"license_expression": "MIT AND GPL-3.0-only"}, False),
        ({"license": "CC BY-NC 4.0"}, False),
        ({}, False),
    ],
)
def test_a_licence_is_accepted_only_where_it_is_known(project: Project, said: dict[str, Any], accepted: bool):
    status, told = project.audit("licences", metadata(**said))
    assert status == (not accepted)
    assert accepted or told.startswith("leaky 1.5: no accepted licence; read it and decide")


def test_a_new_version_wants_its_licence_looked_at(project: Project):
    project.audit("licences", metadata(license="MIT"))
    assert project.audit("licences")[0] == 0
    (project.requirements / "cpu.txt").write_text("leaky==1.6 \\\n    --hash=sha256:0\n")
    status, told = project.audit("licences")
    assert status == 1
    assert "leaky 1.6: no accepted licence" in told
    assert "leaky 1.5: not locked; bash scripts/audit.sh --licences" in told
