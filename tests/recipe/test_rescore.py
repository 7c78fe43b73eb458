"""Rollouts of a run are scored again, each with its own row, by other scorers or options."""

from pathlib import Path

import pytest
import typer
import yaml
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.rewards.options import RewardOptions
from verl_longrl.trainer.rollout_log import RolloutLog

from recipe.longrl import rescore

SCORER = """
from verl_longrl.rewards import Score, scorer

@scorer("loongrl_qa", replace=True)
def length(response, ground_truth, extra_info, options):
    return Score(float(len(response)), {"depth": float(extra_info["depth"])}, candidate=response)
"""


def sample(index, answer, question="Where?", source="loongrl_qa", **payload):
    prompt = [{"role": "user", "content": question}]
    return Sample(source, prompt, answer, index, question=question, payload={"depth": 2, **payload})


def log_rollouts(run: Path, step: int, rollouts: list[tuple[Sample, str, float]]) -> None:
    """Write rollouts (row, response, old reward) of a step as training does."""
    log, lines = RolloutLog(run / "rollouts"), []
    for number, (row, response, score) in enumerate(rollouts):
        about = {"index": row.index, "ground_truth": row.ground_truth, "question": row.question}
        (key,) = log.add_prompts([(f"user: {row.question}", about)])
        lines.append({"uid": str(number), "rollout": 0, "prompt": key, "response": response, "score": score})
    log.write_step(
        "train", step, [{**line, "task": rollout[0].data_source} for line, rollout in zip(lines, rollouts, strict=True)]
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    paris, rome = sample(0, "Paris", "Where is it?"), sample(1, ["Rome", "Roma"], "Where was it?")
    write_samples(tmp_path / "train.parquet", [paris, rome])
    settings = {
        "data": {"train_files": [str(tmp_path / "train.parquet")]},
        "longrl": {"reward": {"method": "loongrl", "workers": 1, "answer": {"by": "judge"}}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    log_rollouts(tmp_path, 2, [(paris, "It is \\boxed{It is Paris}", 1.0), (rome, "\\boxed{Roma}", 0.0)])
    log_rollouts(tmp_path, 10, [(paris, "no box at all [b]", 0.0)])
    return tmp_path


def rewards(changes):
    return [(change.rollout["step"], change.rollout["score"], change.new.value) for change in changes]


def test_the_runs_own_options_hold_without_its_judge(run: Path):
    options = rescore.reward_options(rescore.read_settings(run), [], [])
    assert options == RewardOptions(method="loongrl", workers=1)
    assert rewards(rescore.rescore(run, options, [run / "train.parquet"])) == [
        (2, 1.0, 1.0),
        (2, 0.0, 1.0),
        (10, 0.0, 0.0),
    ]


def test_an_override_changes_the_rewards(run: Path):
    options = rescore.reward_options(rescore.read_settings(run), ["longrl.reward.answer.mode=exact"], [])
    assert rewards(rescore.rescore(run, options, [run / "train.parquet"]))[0] == (2, 1.0, 0.0)


def test_a_users_scorer_is_given_the_whole_row(run: Path, capsys: pytest.CaptureFixture[str]):
    (run / "mine.py").write_text(SCORER)
    rescore.main(run, scorers=[str(run / "mine.py")], show=1)
    shown = capsys.readouterr().out
    mean = (len("It is \\boxed{It is Paris}") + len("\\boxed{Roma}") + len("no box at all [b]")) / 3
    assert f"{mean:.3f}" in shown
    assert "0.333" in shown

    options = rescore.reward_options(rescore.read_settings(run), [], [str(run / "mine.py")])
    changes = rescore.rescore(run, options, [run / "train.parquet"])
    assert [change.new.parts for change in changes] == [{"depth": 2.0}] * 3
    table = rescore.table_of_changes(changes, 2)
    assert table.row_count == 2
    # The largest differences come first, and brackets are not markup.
    assert list(table.columns[-1].cells) == ["It is \\boxed{It is Paris}", "no box at all \\[b]"]


def test_what_cannot_be_scored_is_named_with_a_fix(run: Path, tmp_path: Path):
    with pytest.raises(typer.BadParameter, match=r"config\.yaml: no such file\. Fix: name the folder of a run"):
        rescore.main(run / "elsewhere")
    with pytest.raises(
        typer.BadParameter, match=r"trainer\.nnodes=2: is not an option of rewards\. Fix: write longrl\.reward\.KEY"
    ):
        rescore.main(run, ["trainer.nnodes=2"])
    with pytest.raises(typer.BadParameter, match=r"longrl\.reward\.eta = 2"):
        rescore.main(run, ["longrl.reward.eta=2"])
    write_samples(run / "other.parquet", [sample(7, "Oslo")])
    with pytest.raises(typer.BadParameter, match=r"other\.parquet.*belongs to a row.*Fix: with --rows, name"):
        rescore.main(run, rows=[str(run / "other.parquet")])
    (run / "rollouts" / "train" / "2.jsonl").unlink()
    (run / "rollouts" / "train" / "10.jsonl").unlink()
    with pytest.raises(typer.BadParameter, match=r"rollouts: has no rollouts"):
        rescore.main(run)
