"""The campaign's command line and its output."""

import dataclasses
import json
from types import SimpleNamespace

import chaos
import pytest
import typer
from faults import results_table
from faults.campaign import Outcome
from faults.catalog import FAULTS
from typer.testing import CliRunner

GOOD = Outcome("moved", "data and run are moved", "0.30 s after step 2", (75, 0), 151.4, 2.3e-6, ())
BAD = Outcome("term", "SIGTERM", "", (1, 75, 0), 90.0, None, ("console: a traceback", "ports: raylet"))


def run(*arguments: str):
    app = typer.Typer()
    app.command()(chaos.main)
    return CliRunner().invoke(app, arguments)


def test_faults_are_listed_with_descriptions():
    done = run("--list")
    assert done.exit_code == 0
    assert [line.split(maxsplit=1) for line in done.output.splitlines()] == [[f.name, f.description] for f in FAULTS]


def test_an_unknown_fault_is_rejected_with_the_known_ones():
    done = run("--only", "mooved")
    assert done.exit_code == 2
    assert "unknown fault mooved" in done.output


class FakeCampaign:
    """Runs nothing: each fault takes a minute, and the third has problems."""

    def __init__(self, folder, seed):
        self.tried = []

    def run_reference(self):
        return GOOD

    def run_fault(self, fault):
        self.tried.append(fault.name)
        clock.now += 60
        return dataclasses.replace(BAD if len(self.tried) == 3 else GOOD, name=fault.name)


clock = SimpleNamespace(now=0.0)


@pytest.fixture
def fake_campaign(monkeypatch):
    clock.now = 0.0
    monkeypatch.setattr(chaos, "Campaign", FakeCampaign)
    monkeypatch.setattr(chaos.time, "monotonic", lambda: clock.now)


def test_no_fault_is_started_when_the_time_is_over(fake_campaign, tmp_path):
    done = run("--minutes", "1.5", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0
    assert done.output.count("\nok ") == 3  # With the reference.
    assert f"the time is over; faults not tried: {len(FAULTS) - 2}" in done.output
    assert list((tmp_path / "out").iterdir()) == []


def test_problems_are_in_the_status_and_in_the_results(fake_campaign, tmp_path):
    done = run("--minutes", "2.5", "--out", str(tmp_path / "out"), "--results", str(tmp_path / "chaos.md"))
    assert done.exit_code == 1
    assert done.output.count("FAILED") == 1
    assert "console: a traceback" in (tmp_path / "chaos.md").read_text()
    (campaign,) = json.loads((tmp_path / "chaos.json").read_text())
    assert len(campaign["faults"]) == 4


def test_a_line_names_the_problems():
    assert (
        results_table.format_line(GOOD)
        == "ok     moved                    151 s  status 75 0         0.30 s after step 2"
    )
    assert results_table.format_line(BAD).splitlines()[1:] == ["       console: a traceback", "       ports: raylet"]


RESULT = results_table.CampaignResult("python scripts/chaos.py", (GOOD, BAD), {"full_disk": "no permission"})


def test_the_page_has_a_row_for_each_fault_and_names_skipped_ones():
    page = results_table.format_markdown([RESULT])
    assert "| data and run are moved | 0.30 s after step 2 | 75, 0 | 2e-06 | 151 | ok |" in page
    assert "| SIGTERM | - | 1, 75, 0 | - | 90 | console: a traceback<br>ports: raylet |" in page
    assert "Skipped: full_disk (no permission)." in page


def test_repeated_faults_replace_earlier_ones(tmp_path):
    reference, data = dataclasses.replace(GOOD, name="reference"), tmp_path / "chaos.json"
    data.write_text(results_table.format_json([RESULT._replace(outcomes=(reference, GOOD, BAD))]))
    repeated = results_table.CampaignResult("again", (reference, dataclasses.replace(BAD, problems=())), {})
    both = results_table.append_campaign(results_table.read_results(data), repeated)
    assert [[outcome.name for outcome in each.outcomes] for each in both] == [
        ["reference", "moved"],
        ["reference", "term"],
    ]
    assert both[1] == repeated
    assert both[0].outcomes[1].statuses == (75, 0)
    assert results_table.append_campaign(both[1:], repeated) == [repeated]
    assert results_table.read_results(tmp_path / "none.json") == []
