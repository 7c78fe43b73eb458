"""summary.json has the held-out loss before and after, and keeps the duration of the start that trained."""

import json
from pathlib import Path

from recipe.longrl import report as run_report
from recipe.longrl.sft import report

LOSSES = {0: 2.5, 2: 1.5}


def metrics(folder: Path, held_out: bool = True) -> None:
    rows = [{"split": "train", "step": step, "train/loss": 3.0 / step} for step in (1, 2)]
    rows += [{"split": "val", "step": step, "val/loss": loss} for step, loss in LOSSES.items()] if held_out else []
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_held_out_loss_is_reported(tmp_path: Path, capsys):
    metrics(tmp_path)
    summary = report.write_report(tmp_path, "python -m x", 12.34)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert (summary["before"], summary["after"], summary["steps"]) == ({"loss": 2.5}, {"loss": 1.5}, 2)
    assert (summary["loss_of"], summary["seconds"], summary["command"]) == ("held out", 12.3, "python -m x")
    assert (tmp_path / "plots" / "loss.png").stat().st_size > 1000
    assert "loss, held out: 2.5000 at step 0 -> 1.5000 at step 2" in capsys.readouterr().out


def test_without_held_out_rows_it_is_that_of_training(tmp_path: Path):
    metrics(tmp_path, held_out=False)
    summary = report.write_report(tmp_path, "python -m x", 1.0)
    assert (summary["before"], summary["after"], summary["loss_of"]) == ({"loss": 3.0}, {"loss": 1.5}, "training")


def test_a_start_that_finds_the_run_complete_keeps_its_duration(tmp_path: Path):
    metrics(tmp_path)
    report.write_report(tmp_path, "first", 100.0)
    assert report.write_report(tmp_path, "second", 2.0)["seconds"] == 100.0


def test_the_model_card_can_compare_losses(tmp_path: Path):
    metrics(tmp_path)
    compared = run_report.compare_first_and_last(run_report.read_metrics(tmp_path))
    assert compared is not None
    assert compared.lines() == [("loss of demonstrations", 2.5, 1.5)]
