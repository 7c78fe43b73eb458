"""Stages run in the file's order, with common and own overrides, each from the weights of the stage before."""

from pathlib import Path

import pytest

from recipe.longrl.curriculum import plan
from recipe.longrl.curriculum.mining import MineOptions
from recipe.longrl.settings import SettingsError
from recipe.longrl.sft.options import SftOptions

MODEL = "actor_rollout_ref.model.path=some/model"
FILE = """
easy: {overrides: [trainer.total_epochs=1]}
hard:
  mine: {rollouts: 4}
  overrides: [trainer.total_epochs=2, data.train_batch_size=16]
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "mine.yaml").write_text(FILE)
    return f"curriculum={tmp_path / 'mine.yaml'}"


def test_every_stage_has_everybodys_overrides_its_own_and_a_folder(file: str, tmp_path: Path):
    found = plan.read_plan(
        [
            file,
            MODEL,
            f"longrl.output_dir={tmp_path / 'run'}",
            "trainer.experiment_name=tried",
            "trainer.total_epochs=7",
            "data.val_files=[val.parquet]",
            "easy.data.train_files=[a.parquet]",
            "+hard.data.more=1",
            "hard.trainer.total_epochs=3",
            "hard.mine.drop_unsolved=true",
        ]
    )
    easy, hard = found.stages
    assert (found.name, found.folder) == ("tried", tmp_path / "run")
    assert [stage.name for stage in found.stages] == ["easy", "hard"]
    assert (easy.config.trainer.total_epochs, hard.config.trainer.total_epochs) == (1, 3)
    assert (easy.config.data.train_files, hard.config.data.train_files) == (["a.parquet"], None)
    assert (hard.config.data.more, hard.config.data.train_batch_size) == (1, 16)
    assert easy.config.longrl.reward.method == "loongrl"  # unless the user names another method
    assert easy.mine is None
    assert hard.mine == MineOptions(rollouts=4, drop_unsolved=True)
    assert easy.initial_weights is None
    assert easy.config.actor_rollout_ref.model.path == "some/model"
    assert hard.initial_weights == easy.export == tmp_path / "run" / "easy" / "export"
    assert hard.config.actor_rollout_ref.model.path == str(easy.export)
    assert hard.config.trainer.default_local_dir == str(tmp_path / "run" / "hard" / "checkpoints")


COLD = """
coldstart: {sft: {train_files: [a.parquet], steps: 10, lr: 1.0e-4}}
hard: {mine: {rollouts: 4}}
"""


@pytest.fixture
def cold(tmp_path: Path) -> str:
    (tmp_path / "cold.yaml").write_text(COLD)
    return f"curriculum={tmp_path / 'cold.yaml'}"


def test_a_stage_may_be_supervised(cold: str):
    found = plan.read_plan([cold, MODEL, "coldstart.sft.train_files=[b.parquet,c.parquet]", "coldstart.sft.lr=5e-5"])
    start, hard = found.stages
    assert start.sft == SftOptions(train_files=("b.parquet", "c.parquet"), steps=10, lr=5e-5)
    assert (start.mine, hard.sft) == (None, None)
    assert hard.initial_weights == start.export
    # A single file for a list of them.
    one = plan.read_plan([cold, MODEL, "coldstart.sft.train_files=b.parquet"]).stages[0]
    assert one.sft == SftOptions(train_files=("b.parquet",), steps=10, lr=1e-4)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("coldstart.sft.learning_rate=1", "coldstart.sft.learning_rate = 1: unknown key"),
        ("coldstart.mine.rollouts=2", "coldstart.mine = .*: a stage with sft trains on demonstrations"),
        ("hard.sft.steps=2", "hard.mine = .*: a stage with sft trains on demonstrations"),
    ],
)
def test_a_supervised_stage_that_cannot_run_is_named(cold: str, argument: str, message: str):
    with pytest.raises(SettingsError, match=message):
        plan.read_plan([cold, MODEL, argument])


def test_checkpoints_of_stages_are_kept_apart(file: str):
    found = plan.read_plan([file, MODEL, "trainer.default_local_dir=/disk/ckpt"])
    assert [stage.config.trainer.default_local_dir for stage in found.stages] == ["/disk/ckpt/easy", "/disk/ckpt/hard"]


@pytest.mark.parametrize("name", ["loongrl-7b", "loongrl-14b", "demo"])
def test_what_is_shipped_composes(name: str):
    found = plan.read_plan([f"curriculum={name}", MODEL])
    assert [stage.name for stage in found.stages][-2:] == ["stage1", "stage2"]
    assert found.stages[-1].mine == MineOptions()
    assert found.stages[-2].mine is None


def test_the_published_batches():
    seven, fourteen = (plan.read_plan([f"curriculum=loongrl-{size}", MODEL]).stages for size in ("7b", "14b"))
    assert [stage.config.trainer.total_epochs for stage in seven] == [1, 4, 9]
    assert [stage.config.trainer.total_epochs for stage in fourteen] == [2, 3]
    assert {stage.config.data.train_batch_size for stage in seven} == {512}
    assert {stage.config.data.train_batch_size for stage in fourteen} == {256}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "curriculum=loongrl-8b",
            r"is unknown; the nearest is loongrl-\d+b \(known: demo, loongrl-14b, loongrl-7b, or a .yaml file",
        ),
        ("curriculum=missing.yaml", "cannot be read"),
        ("hard.data.train_fils=[x]", "stage hard: unknown key data.train_fils; nearest valid ones: data.train_files"),
        ("hard.mine.rollout=3", "hard.mine.rollout = 3: unknown key. Fix: .* the nearest is hard.mine.rollouts"),
        ("hard.mine.rollouts=0", "hard.mine.rollouts = 0: expected a whole number of at least 1"),
        ("trainer.save_freq=-1", "stage easy: .*positive trainer.save_freq"),
        ("longrl.export=false", "stage easy: longrl.export = False"),
    ],
)
def test_what_cannot_run_is_named(file: str, argument: str, message: str):
    given = [argument] if argument.startswith("curriculum=") else [file, argument]
    with pytest.raises(SettingsError, match=message):
        plan.read_plan([MODEL, *given])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {overrides: []}", "a stage cannot be called data"),
        ("a b: {overrides: []}", "'a b' cannot name a stage"),
        ("easy: {override: []}", r"easy.override = \[\]: unknown key"),
        ("[1, 2]", "expected stages by name"),
        ("easy: {overrides: [", "curriculum="),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        plan.read_plan([MODEL, f"curriculum={tmp_path / 'bad.yaml'}"])
