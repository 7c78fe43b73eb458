"""Locked packages have no known vulnerability without a reason, and an accepted licence; the audits report others."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_locked_packages_have_no_undecided_advisory():
    done = subprocess.run([sys.executable, ROOT / "scripts/audit/advisories.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_locked_package_has_an_accepted_licence():
    done = subprocess.run([sys.executable, ROOT / "scripts/audit/licences.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class AuditedProject:
    """A folder with the audits and one lock: leaky 1.5."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.requirements = folder, folder / "requirements"
        shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        self.requirements.mkdir()
        (self.requirements / "cpu.txt").write_text("leaky==1.5 \\\n    --hash=sha256:0\n")

    def write_advisory(self, affected: str, reason: str = "") -> None:
        entry = f'ids = ["CVE-1"]\npackages = ["leaky"]\naffected = "{affected}"\nwhat = "leaks"\n'
        reason_line = f'reason = "{reason}"\n' if reason else ""
        (self.requirements / "advisories.toml").write_text(f"[[advisory]]\n{entry}{reason_line}")

    def audit(self, script: str, *reports: dict[str, Any]) -> tuple[int, str]:
        """The status and the output."""
        paths = [self.folder / f"{i}.json" for i in range(len(reports))]
        for path, report in zip(paths, reports, strict=True):
            path.write_text(json.dumps(report))
        command = [sys.executable, self.folder / "scripts" / "audit" / f"{script}.py", *paths]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout


@pytest.fixture
def project(tmp_path: Path) -> AuditedProject:
    return AuditedProject(tmp_path)


@pytest.mark.parametrize(
    ("affected", "reason", "status", "message"),
    [
        ("<1.5", "", 0, "all known advisories"),
        ("<2", "", 1, "requirements/cpu.txt has leaky 1.5: CVE-1, leaks. Fix: lock a version that is not <2"),
        ("<2", "not reached", 0, "all known advisories"),
        ("<1.5", "not reached", 1, "CVE-1 no longer affects a lock. Fix: remove its reason"),
    ],
)
def test_an_affected_lock_needs_a_reason_and_only_then(project: AuditedProject, affected, reason, status, message):
    project.write_advisory(affected, reason)
    actual_status, output = project.audit("advisories")
    assert (actual_status, message in output) == (status, True), output


@pytest.mark.parametrize(
    ("dependency", "status", "message"),
    [
        ({"vulns": []}, 0, "all known advisories"),
        ({"vulns": [{"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": []}]}, 0, "all known advisories"),
        ({"vulns": [{"id": "CVE-2", "aliases": [], "fix_versions": ["1.6"]}]}, 1, "leaky 1.5: CVE-2, fixed in 1.6"),
        ({"skip_reason": "not found on PyPI"}, 3, "not looked up, so their advisories are unknown: leaky"),
    ],
)
def test_advisories_of_pip_audit_that_are_not_in_the_file(project: AuditedProject, dependency, status, message):
    """pip-audit itself reports "No known vulnerabilities found" for packages that it could not look up."""
    project.write_advisory("<2", "not reached")
    actual_status, output = project.audit(
        "advisories", {"dependencies": [{"name": "leaky", "version": "1.5", **dependency}]}
    )
    assert (actual_status, message in output) == (status, True), output


def test_an_audit_without_network_reports_unknown_packages(project: AuditedProject):
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


def installation_report(**metadata: Any) -> dict[str, Any]:
    """pip's installation report of one package."""
    return {"install": [{"metadata": {"name": "Leaky", "version": "1.5", **metadata}}]}


@pytest.mark.parametrize(
    ("metadata", "accepted"),
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
def test_only_known_licences_are_accepted(project: AuditedProject, metadata: dict[str, Any], accepted: bool):
    status, output = project.audit("licences", installation_report(**metadata))
    assert status == (not accepted)
    assert accepted or output.startswith("leaky 1.5: no accepted licence. Fix: decide")


def test_a_new_version_needs_its_licence_checked(project: AuditedProject):
    project.audit("licences", installation_report(license="MIT"))
    assert project.audit("licences")[0] == 0
    (project.requirements / "cpu.txt").write_text("leaky==1.6 \\\n    --hash=sha256:0\n")
    status, output = project.audit("licences")
    assert status == 1
    assert "leaky 1.6: no accepted licence" in output
    assert "leaky 1.5: not locked. Fix: run bash scripts/audit.sh --licences" in output
