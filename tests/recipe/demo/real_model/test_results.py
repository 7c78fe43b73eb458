"""The tables and the plot of the experiment, from the files that its stages write."""

import json
from pathlib import Path

import pytest
from verl_longrl.data.jsonl import dumps
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.schema import Sample, write_samples

from recipe.longrl.demo.real_model import results


def answered(folder: Path, recall: list[float], text: str = "<think> a | b <script>") -> None:
    """An evaluation whose answers to x1 have these recalls."""
    folder = folder / "own_parquet"
    folder.mkdir(parents=True)
    scores = [
        {"row": f"x1/{number}", "parts": {results.RULE: {"recall": value, "answer": value, "context": value}}}
        for number, value in enumerate(recall)
    ]
    (folder / "scores.jsonl").write_text("".join(dumps(line) + "\n" for line in scores))
    answers = [{"row": line["row"], "text": text} for line in scores]
    (folder / "answers.jsonl").write_text("".join(dumps(line) + "\n" for line in answers))


@pytest.fixture
def world(tmp_path) -> Path:
    folder = tmp_path / "planted"
    rows = [
        Sample(
            data_source="longrlvr",
            prompt=grounded_prompt(["a", "b"], "Which?"),
            ground_truth="one and two",
            index=index,
            question="Which?",
            ref_chunks=[0, 1],
            ref_chunks_text=["a", "b"],
            num_chunks=2,
        )
        for index in range(4)
    ]
    write_samples(folder / "rows/test/x1.parquet", rows)
    answered(folder / "eval/released", [0.0] * 4)
    answered(folder / "eval/cold", [0.5, 0.5, 0.0, 0.0])
    for method, gain in (("longrlvr", 0.5), ("outcome_only", 0.0)):
        for seed in (1, 2):
            answered(folder / f"eval/{method}-{seed}", [0.5 + gain, 0.5 + gain, gain, gain])
            (folder / f"{method}-{seed}").mkdir()
            rows_of_metrics = [
                {"split": "val", "step": step, **{f"val/{part}": gain for part in results.CURVES}} for step in (0, 5)
            ]
            metrics = "".join(json.dumps(row) + "\n" for row in rows_of_metrics)
            (folder / f"{method}-{seed}/metrics.jsonl").write_text(metrics)
    return folder


def test_means_and_paired_differences(world):
    measured = results.measure(world)
    assert measured.methods == {
        "longrlvr": ["longrlvr-1", "longrlvr-2"],
        "outcome_only": ["outcome_only-1", "outcome_only-2"],
    }
    table = "\n".join(results.score_table(measured))
    assert "| cited recall | released model | 0.00 |" in table
    assert "| cited recall | cold start | 0.25 |" in table
    assert "| cited recall | longrlvr | 0.75 (0.75 to 0.75) |" in table
    # Every question gains as much, so there is no doubt about the difference.
    differences = "\n".join(results.difference_table(measured))
    assert "| longrlvr - cold start | cited recall | +0.50 [+0.50, +0.50] |" in differences
    assert "| longrlvr - outcome_only | cited recall | +0.50 [+0.50, +0.50] |" in differences
    assert "| outcome_only - cold start | cited recall | +0.00 [+0.00, +0.00] |" in differences


def test_the_page_shows_answers_as_text(world, tmp_path, capsys):
    results.write_page(world.parent, tmp_path / "page", ["planted"])
    text = (tmp_path / "page/real_model_tables.md").read_text()
    assert "a \\| b &lt;script>" in text
    assert "**one and two**, chunks 0, 1" in text
    assert (tmp_path / "page/real_model_planted.png").stat().st_size > 10_000
    assert text in capsys.readouterr().out
