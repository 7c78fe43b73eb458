"""run.json says what a run is and how it ended, and never ends the run."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from verl_longrl.trainer.recorded_run import RecordedRun

from recipe.longrl import provenance, run_record, settings

pytestmark = pytest.mark.engine


@pytest.fixture
def config(composed, tmp_path: Path):
    files = [f"data.{split}_files=[{tmp_path / split}.parquet]" for split in ("train", "val")]
    named = ["actor_rollout_ref.model.path=org/base", "trainer.experiment_name=wells", "longrl.reward.eta=0.2"]
    config = composed(*files, *named, f"longrl.output_dir={tmp_path / 'run'}")
    settings.resolve(config, dry_run=True)
    return config


def read(config) -> dict[str, Any]:
    return json.loads((Path(config.longrl.output_dir) / "run.json").read_text())


def test_a_run_to_its_end(config):
    with run_record.record_run(config, "python -m recipe.longrl.main a=1"):
        running = read(config)
    assert (running["status"], running["why"], running["ended"]) == ("running", "", None)
    assert (running["name"], running["method"], running["model"]) == ("wells", "longrlvr", "org/base")
    assert running["command"] == "python -m recipe.longrl.main a=1"
    assert running["versions"]["verl"] == "0.9.1"
    assert running["changed"]["longrl.reward.eta"] == 0.2
    assert "longrl.reward.beta" not in running["changed"]
    ended = read(config)
    assert ended["status"] == "complete"
    assert ended["ended"] >= ended["started"]
    (start,) = provenance.read_starts(Path(config.longrl.output_dir))
    assert {name: running[name] for name in ("command", "commit", "versions")} == {
        name: start[name] for name in ("command", "commit", "versions")
    }


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (ValueError("a\nbad value"), "failed", "ValueError: a bad value"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt: "),
        (SystemExit(143), "interrupted", "SystemExit: 143"),
    ],
)
def test_an_error_ends_it(config, error: BaseException, status: str, why: str):
    with pytest.raises(type(error)), run_record.record_run(config, "c"):
        raise error
    assert (read(config)["status"], read(config)["why"]) == (status, why)


def test_the_reason_that_is_given_counts(config, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")

    def run() -> None:
        with run_record.record_run(config, "c") as record:
            record.end("stopped", "no signal with hf_abcdefghijklmnop" + "x" * 5000)
            sys.exit(1)

    with pytest.raises(SystemExit):
        run()
    assert read(config)["status"] == "stopped"
    assert "hf_abc" not in read(config)["why"]
    assert len(read(config)["why"]) == run_record.LONGEST_WHY
    assert RecordedRun(Path(config.longrl.output_dir)).info()["status"] == "stopped"


@pytest.mark.parametrize("broken", ["write_atomic", "dumps"])
def test_no_error_of_the_record_ends_the_run(config, monkeypatch, capsys, broken: str):
    def fail(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(run_record, broken, fail)
    with run_record.record_run(config, "c"):
        trained = True
    assert trained
    assert "run.json is not written: No space left on device" in capsys.readouterr().out


def test_a_configuration_that_cannot_be_described(config, monkeypatch, capsys):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no defaults")

    monkeypatch.setattr(settings, "changed_values", fail)
    with run_record.record_run(config, "c"):
        assert read(config)["status"] == "running"
    assert "run.json does not describe the configuration: no defaults" in capsys.readouterr().out
