"""Rows are kept by their pass rate, and rows that were mined with different settings are never mixed."""

import json
from pathlib import Path

import pytest
from verl_longrl.data.schema import Sample, read_samples, write_samples

from recipe.longrl.curriculum import mining
from recipe.longrl.curriculum.mining import MineOptions, MiningError

RIGHT = {"never": [0, 0, 0, 0], "once": [0, 1, 0, 0], "mostly": [1, 1, 1, 0], "always": [1, 1, 1, 1]}


def write(path: Path, names: list[str]) -> None:
    write_samples(
        path,
        (
            Sample(
                data_source="loongrl_qa",
                prompt=[{"role": "user", "content": f"question {name}"}],
                ground_truth="yes",
                index=index,
                split="train",
                payload={"name": name},
            )
            for index, name in enumerate(names)
        ),
    )


def line(file: int, row: int, answers: list[float], **more: object) -> dict:
    return {"file": file, "row": row, "task": "qa", "answers": answers, "statuses": ["ok"] * len(answers), **more}


@pytest.fixture
def mined(composed, tmp_path: Path, monkeypatch):
    """mined(lines, options) -> the files of kept rows; the rows' answers are these lines'."""
    write(tmp_path / "a.parquet", list(RIGHT))
    write(tmp_path / "b.parquet", list(RIGHT))
    config = composed(f"longrl.output_dir={tmp_path / 'run'}", "data.train_batch_size=1")
    config.data.train_files = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]

    def run(lines: list[dict], **options: object) -> list[Path]:
        async def roll_out(config, options, path):
            path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))

        monkeypatch.setattr(mining, "_roll_out", roll_out)
        mining.mine_files(config, MineOptions(rollouts=4, **options))
        return mining.kept_files(config)

    run.config = config
    return run


def answered() -> list[dict]:
    return [line(file, row, answers) for file in (0, 1) for row, answers in enumerate(RIGHT.values())]


def names(path: Path) -> dict[str, float]:
    return {sample.payload["name"]: sample.payload["pass_rate"] for sample in read_samples(path)}


def test_what_is_always_right_goes(mined, tmp_path: Path, capsys):
    files = mined(answered())
    assert [file.name for file in files] == ["a.parquet", "b.parquet"]
    assert names(files[0]) == {"never": 0.0, "once": 0.25, "mostly": 0.75}
    found = json.loads((tmp_path / "run" / "mining" / "mining.json").read_text())
    assert found["pass_rate"] == {"qa": [2, 2, 0, 2, 2]}
    assert found["files"][0] | {"file": ""} == {
        **{"file": "", "rows": 4, "kept": 3, "solved": 1, "unsolved": 1, "too_long": 0, "unscored": 0}
    }
    assert (tmp_path / "run" / "mining" / "mining.png").stat().st_size > 1000
    mining.print_summary(mined.config)
    assert "0/4: 2  1/4: 2  2/4: 0  3/4: 2  4/4: 2" in capsys.readouterr().out


def test_what_is_never_right_goes_when_asked(mined):
    assert names(mined(answered(), drop_unsolved=True)[0]) == {"once": 0.25, "mostly": 0.75}


def test_failed_scores_are_no_wrong_answers(mined, tmp_path: Path):
    lines = answered()
    lines[0] |= {"answers": [0, 0, 0, 1], "statuses": ["judge_error", "timeout", "ok", "ok"]}  # half of what counts
    lines[1] |= {"statuses": ["scorer_error"] * 4}
    lines[2] = {"file": 0, "row": 2, "task": "qa", "too_long": 99}
    assert names(mined(lines)[0]) == {"never": 0.5}
    found = json.loads((tmp_path / "run" / "mining" / "mining.json").read_text())
    assert (found["files"][0]["unscored"], found["files"][0]["too_long"]) == (1, 1)


def test_the_last_answer_to_a_row_counts(mined):
    lines = [*answered(), line(0, 0, [1, 1, 1, 1])]
    assert names(mined(lines)[0]) == {"once": 0.25, "mostly": 0.75}


def test_fractions_of_answers_are_pass_rates(mined):
    assert names(mined([line(0, 0, [0.5, 1, 1, 1]), line(0, 3, [1, 1, 1, 1])])[0]) == {"never": 0.875}


def test_a_file_without_hard_rows_is_left_out(mined, tmp_path: Path):
    files = mined([line(0, 3, [1, 1, 1, 1]), line(1, 0, [0, 0, 0, 0])])
    assert [file.name for file in files] == ["b.parquet"]


def test_too_few_rows_for_a_batch_are_an_error(mined):
    mined.config.data.train_batch_size = 8
    with pytest.raises(MiningError, match="kept 6 rows, fewer than one batch of 8"):
        mined(answered())


def test_another_question_about_the_same_folder_is_refused(mined):
    mined(answered())
    with pytest.raises(
        MiningError, match=r"mined with different settings:\noptions: .*'drop_unsolved': False.* -> .*True"
    ):
        mined(answered(), drop_unsolved=True)
    assert mined([])[0].is_file()  # the same question: nothing is asked again


def test_another_model_behind_the_same_folder_is_refused(mined, tmp_path: Path):
    """A prepared model is always at <output_dir>/model; what it was made of is compared, where it was written down."""
    prepared = tmp_path / "run" / "model"
    prepared.mkdir(parents=True)
    mined.config.actor_rollout_ref.model.path = str(prepared)
    (prepared / "longrl_origin.json").write_text('{"model": "/models/a"}')
    mined(answered())
    (prepared / "longrl_origin.json").write_text('{"model": "/models/b"}')
    with pytest.raises(MiningError, match="made_of: /models/a -> /models/b"):
        mined([])
    asked = tmp_path / "run" / "mining" / "asked.json"
    before = json.loads(asked.read_text())
    # as earlier versions wrote it
    del before["made_of"], before["reward"]["scorer_network"]
    before["reward"]["answer"] = "{'by': 'rule', 'mode': 'auto', 'f1_threshold': 0.8}"
    asked.write_text(json.dumps(before))
    assert mined([])[0].is_file()


def test_files_of_one_name_are_kept_apart(mined, tmp_path: Path):
    mined.config.data.train_files = [str(tmp_path / "x" / "a.parquet"), str(tmp_path / "y" / "a.parquet")]
    assert [path.name for path in mining.mined_files(mined.config)] == ["a-0.parquet", "a-1.parquet"]


@pytest.mark.parametrize("options", [{"rollouts": 0}, {"temperature": -1.0}, {"top_p": 0.0}])
def test_options_out_of_range_are_named(options: dict):
    with pytest.raises(ValueError, match=f"mine.{next(iter(options))} = .*: expected a (whole )?number"):
        MineOptions.from_dict(options, "mine.")


def test_files_that_were_moved_are_the_same_and_changed_ones_are_not(mined, tmp_path: Path):
    mined(answered())
    moved = tmp_path / "moved"
    moved.mkdir()
    files = [Path(file) for file in mined.config.data.train_files]
    mined.config.data.train_files = [str(file.rename(moved / file.name)) for file in files]
    mined([])
    first = moved / files[0].name
    first.write_bytes(first.read_bytes()[:-1] + b"!")
    with pytest.raises(MiningError, match=r"content of data\.train_files"):
        mined([])


def test_what_is_wrong_with_what_was_asked_has_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        mining.main(["mine.rollouts=x"])
    assert ended.value.code == 2
    assert "mine.rollouts = 'x'" in capsys.readouterr().err
