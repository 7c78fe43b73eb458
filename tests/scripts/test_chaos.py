"""The command line of the campaign, and what it prints."""

import dataclasses
import json
from types import SimpleNamespace

import chaos
import pytest
import typer
from faults import table
from faults.campaign import Outcome
from faults.kinds import FAULTS
from typer.testing import CliRunner

GOOD = Outcome("moved", "data and run are moved", "0.30 s after step 2", (75, 0), 151.4, 2.3e-6, ())
BAD = Outcome("term", "SIGTERM", "", (1, 75, 0), 90.0, None, ("terminal: a traceback", "ports: raylet"))


def run(*arguments: str):
    app = typer.Typer()
    app.command()(chaos.main)
    return CliRunner().invoke(app, arguments)


def test_faults_are_listed_with_what_they_are():
    done = run("--list")
    assert done.exit_code == 0
    assert [line.split(maxsplit=1) for line in done.output.splitlines()] == [[f.name, f.says] for f in FAULTS]


def test_an_unknown_fault_is_refused_with_the_known_ones():
    done = run("--only", "mooved")
    assert done.exit_code == 2
    assert "no fault is called mooved" in done.output


class Campaign:
    """Nothing is run: the third fault is not as it must be, and each takes a minute."""

    def __init__(self, folder, seed):
        self.played = []

    def begin(self):
        return GOOD

    def play(self, fault):
        self.played.append(fault.name)
        clock.now += 60
        return dataclasses.replace(BAD if len(self.played) == 3 else GOOD, name=fault.name)


clock = SimpleNamespace(now=0.0)


@pytest.fixture
def nothing_runs(monkeypatch):
    clock.now = 0.0
    monkeypatch.setattr(chaos, "Campaign", Campaign)
    monkeypatch.setattr(chaos.time, "monotonic", lambda: clock.now)


def test_no_fault_is_begun_when_the_time_is_over(nothing_runs, tmp_path):
    done = run("--minutes", "1.5", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0
    assert done.output.count("\nok ") == 3  # with the reference
    assert f"the time is over; not drawn: {len(FAULTS) - 2}" in done.output
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_not_well_is_the_status_and_in_the_results(nothing_runs, tmp_path):
    done = run("--minutes", "2.5", "--out", str(tmp_path / "out"), "--results", str(tmp_path / "chaos.md"))
    assert done.exit_code == 1
    assert done.output.count("BROKEN") == 1
    assert "terminal: a traceback" in (tmp_path / "chaos.md").read_text()
    (campaign,) = json.loads((tmp_path / "chaos.json").read_text())
    assert len(campaign["faults"]) == 4


def test_a_line_names_what_is_not_well():
    assert table.line(GOOD) == "ok     moved                    151 s  status 75 0         0.30 s after step 2"
    assert table.line(BAD).splitlines()[1:] == ["       terminal: a traceback", "       ports: raylet"]


PLAYED = table.Played("python scripts/chaos.py", (GOOD, BAD), {"full_disk": "no permission"})


def test_the_page_has_a_row_for_each_and_what_was_left_out():
    page = table.markdown([PLAYED])
    assert "| data and run are moved | 0.30 s after step 2 | 75, 0 | 2e-06 | 151 | as it must be |" in page
    assert "| SIGTERM | - | 1, 75, 0 | - | 90 | terminal: a traceback<br>ports: raylet |" in page
    assert "Left out: full_disk (no permission)." in page


def test_what_is_tried_again_stands_for_what_was(tmp_path):
    reference, data = dataclasses.replace(GOOD, name="reference"), tmp_path / "chaos.json"
    data.write_text(table.as_json([PLAYED._replace(outcomes=(reference, GOOD, BAD))]))
    mended = table.Played("again", (reference, dataclasses.replace(BAD, problems=())), {})
    both = table.followed_by(table.read(data), mended)
    assert [[outcome.name for outcome in each.outcomes] for each in both] == [
        ["reference", "moved"],
        ["reference", "term"],
    ]
    assert both[1] == mended
    assert both[0].outcomes[1].statuses == (75, 0)
    assert table.followed_by(both[1:], mended) == [mended]
    assert table.read(tmp_path / "none.json") == []
