"""Files that people expect in a repository exist and agree with the code."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_licence_is_the_declared_one():
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text
    named = {PROJECT["project"]["license"], yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"]}
    assert named == {"Apache-2.0"}
    assert PROJECT["project"]["license-files"] == ["LICENSE"]


def test_the_citation_has_the_papers_of_the_readme_and_the_index():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    cited = {reference["url"].rpartition("/")[2]: reference for reference in citation["references"]}
    assert list(cited) == ["2603.02146", "2510.19363", "2605.19577"]
    for number, reference in cited.items():
        assert reference["identifiers"][0]["value"] == f"arXiv:{number}"
        assert all({"given-names", "family-names"} == set(author) for author in reference["authors"])
        assert reference["title"].partition(":")[0] in (ROOT / "README.md").read_text()


def test_the_version_is_written_once():
    version = re.escape(PROJECT["project"]["version"])
    named = [
        p
        for p in ("CITATION.cff", "recipe/__init__.py", "verl/verl_longrl/__init__.py")
        if re.search(version, (ROOT / p).read_text())
    ]
    assert named == []


@pytest.fixture
def hooks() -> list[dict]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"  # nothing is fetched
    return repository["hooks"]


def test_hooks_run_the_first_checks_of_the_suite(hooks: list[dict]):
    script = (ROOT / "scripts" / "test.sh").read_text()
    first = re.findall(r'^"\$venv/bin/(.+)$', script, flags=re.M)
    theirs = [re.fullmatch(r"bash -c '\"\$\{LONGRL_VENV:-.venv\}/bin/(.+)'", hook["entry"]) for hook in hooks]
    assert [match and match[1] for match in theirs] == first
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


def test_a_hook_runs_from_the_environment(hooks: list[dict], tmp_path: Path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "bad.py").write_text("import os\n")
    hook = next(hook for hook in hooks if hook["id"] == "ruff-check")
    done = subprocess.run(
        ["bash", "-c", hook["entry"]],
        cwd=tmp_path,
        env={"LONGRL_VENV": sys.prefix, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "`os` imported but unused" in done.stdout


@pytest.mark.parametrize("package", PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
def test_every_shipped_package_has_types(package: str):
    assert (ROOT / package / "py.typed").is_file()
