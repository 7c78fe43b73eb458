"""The curriculum's table and plot join the reports of its stages."""

import json
from pathlib import Path

from recipe.longrl.curriculum import plan, report

STAGES = "one: {}\ntwo: {}\n"


def stage_done(folder: Path, before: float, after: float, steps: int, seconds: float) -> None:
    folder.mkdir(parents=True)
    parts = [{"answer": value, "qa_1x/answer": value, "qa_1x/score": value} for value in (before, after)]
    summary = {"before": parts[0], "after": parts[1], "steps": steps, "seconds": 1.0, "command": "x"}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "done.json").write_text(json.dumps({"overrides": [], "seconds": seconds}))
    rows = [{"split": "train", "step": step, "reward_before_filter/answer": before} for step in range(1, steps + 1)]
    rows += [
        {"split": "val", "step": step, "val/answer": part["answer"], "val/qa_1x/answer": part["answer"]}
        for step, part in ((0, parts[0]), (steps, parts[1]))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_from_before_the_first_stage_to_after_the_last(tmp_path: Path, capsys):
    (tmp_path / "two.yaml").write_text(STAGES)
    stages = plan.read_plan([f"curriculum={tmp_path / 'two.yaml'}", f"longrl.output_dir={tmp_path / 'run'}"])
    stage_done(tmp_path / "run" / "one", 0.1, 0.5, steps=3, seconds=10.0)
    stage_done(tmp_path / "run" / "two", 0.5, 0.9, steps=2, seconds=20.5)
    summary = report.write_report(stages, "python -m x")
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["before"]["answer"], summary["after"]["answer"]) == (0.1, 0.9)
    assert (summary["steps"], summary["seconds"], summary["command"]) == (5, 30.5, "python -m x")
    assert list(summary["stages"]) == ["one", "two"]
    printed = capsys.readouterr().out
    assert [line.split("│")[1:-1] for line in printed.splitlines() if "qa_1x" in line] == [
        [" qa_1x ", "  0.100 ", " 0.500 ", " 0.900 "]
    ]
    assert (tmp_path / "run" / "plots" / "curriculum.png").stat().st_size > 1000


def test_supervised_stages_show_their_loss(tmp_path: Path, capsys):
    (tmp_path / "two.yaml").write_text("cold: {sft: {train_files: [a.parquet]}}\ntwo: {}\n")
    stages = plan.read_plan([f"curriculum={tmp_path / 'two.yaml'}", f"longrl.output_dir={tmp_path / 'run'}"])
    stage_done(tmp_path / "run" / "two", 0.5, 0.9, steps=2, seconds=20.0)
    cold = tmp_path / "run" / "cold"
    cold.mkdir()
    summary = {"before": {"loss": 2.0}, "after": {"loss": 0.5}, "steps": 3, "seconds": 1.0, "loss_of": "held out"}
    (cold / "summary.json").write_text(json.dumps(summary))
    (cold / "done.json").write_text(json.dumps({"overrides": [], "seconds": 5.0}))
    rows = [{"split": "train", "step": step, "train/loss": 2.0 / step} for step in (1, 2, 3)]
    (cold / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = report.write_report(stages, "python -m x")
    assert (found["before"]["answer"], found["after"]["answer"]) == (0.5, 0.9)
    assert (found["steps"], found["seconds"]) == (5, 25.0)
    assert found["stages"]["cold"]["after"] == {"loss": 0.5}
    assert "cold: loss, held out, 2.000 -> 0.500" in capsys.readouterr().out
    assert (tmp_path / "run" / "plots" / "curriculum.png").stat().st_size > 1000
