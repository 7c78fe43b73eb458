"""YAML files of overrides: what they become, which of two values counts, and what is refused."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from recipe.longrl import settings
from recipe.longrl.command_flags import split_flags
from recipe.longrl.curriculum import plan
from recipe.longrl.override_files import expand_files, read_overrides, write_value
from recipe.longrl.ray_job import is_module

pytestmark = pytest.mark.engine


@pytest.fixture
def file(tmp_path: Path, monkeypatch):
    """file(text) -> the name of a YAML file in the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "my.yaml") -> str:
        Path(name).write_text(text)
        return name

    return write


def test_a_file_is_its_overrides(file):
    name = file(
        """
        hardware: cpu
        data: {train_files: ["a b.parquet", "it's.parquet"]}
        trainer: {experiment_name: "${trainer.project_name}-1", total_epochs: 2}
        longrl:
          reward: {eta: 0.2, scorers: null}
          mix: {phases: [{prompts: 10}, {}]}
        +critic: {added: true}
        """
    )
    flags, overrides = split_flags(["--dry-run", name, "trainer.total_epochs=3"], ["--dry-run"])
    assert flags == {"--dry-run"}
    # Keys that groups set, too, have a ++ in front.
    assert [override.removeprefix("++") for override in overrides] == [
        "hardware='cpu'",
        "data.train_files=['a b.parquet','it\\'s.parquet']",
        "trainer.experiment_name='${trainer.project_name}-1'",
        "trainer.total_epochs=2",
        "longrl.reward.eta=0.2",
        "longrl.reward.scorers=null",
        "longrl.mix.phases=[{prompts:10},{}]",
        "+critic.added=true",
        "trainer.total_epochs=3",
    ]
    config = settings.compose(overrides)
    assert config.trainer.device == "cpu"
    assert list(config.data.train_files) == ["a b.parquet", "it's.parquet"]
    assert (config.trainer.experiment_name, config.trainer.total_epochs) == ("longrl-1", 3)
    assert config.longrl.mix.phases == [{"prompts": 10}, {}]
    assert config.critic.added is True


@pytest.mark.parametrize(
    "text",
    ["plain", "", "a = b, {c: [d]}", "it's", "\\'", "back\\slash", "ends with \\", "two \\\\'", '"', "null", "ä"],
)
def test_any_text_survives(text: str):
    config = settings.compose([f"trainer.project_name={write_value(text)}"])
    assert config.trainer.project_name == text


@pytest.mark.parametrize("value", [None, True, 1, 0.5, 1e-6, 1e300, "true", [], [1, ["a"]], {}, {"a": {"b": None}}])
def test_any_value_survives(value):
    config = (
        OmegaConf.to_container(settings.compose([f"+critic.x={write_value(value)}"]).critic.x)
        if isinstance(value, list | dict)
        else settings.compose([f"+critic.x={write_value(value)}"]).critic.x
    )
    assert config == value


def test_what_is_typed_counts_before_files_and_later_files_before_earlier_ones(file):
    first = file("hardware: 8gpu\nmethod: loongrl\ntrainer: {total_epochs: 1, save_freq: 1}", "first.yaml")
    second = file("hardware: 16gpu\ntrainer: {total_epochs: 2}", "second.yml")
    config = settings.compose(expand_files(["method=outcome_only", first, second, "trainer.save_freq=5"]))
    assert (config.trainer.nnodes, config.trainer.total_epochs, config.trainer.save_freq) == (2, 2, 5)
    assert config.longrl.reward.method == "outcome_only"


def test_the_printed_changes_are_a_file_of_the_same_run(file):
    config = settings.compose(["hardware=cpu", "method=golongrl", "longrl.reward.eta=0.3"])
    settings.resolve(config, dry_run=True, partial=True)
    printed = settings.as_yaml(config, changed=True)
    again = settings.compose(expand_files([file(printed)]))
    settings.resolve(again, dry_run=True, partial=True)
    assert settings.as_yaml(again, changed=True) == printed


def test_keys_of_stages_are_in_files_too(file):
    name = file("trainer: {experiment_name: x}\nwarmup: {trainer: {total_epochs: 7}}\nmethod: golongrl\nhardware: cpu")
    _, overrides = split_flags([name], [])
    stages = {stage.name: stage.config for stage in plan.read_plan(overrides).stages}
    assert [stages[name].trainer.total_epochs for name in ("warmup", "stage1")] == [7, 4]
    assert stages["warmup"].longrl.reward.method == "golongrl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: [1\n", "my.yaml: is not valid YAML"),
        ("a: 1\na: 2\n", "my.yaml: is not valid YAML"),
        ("- 1\n", "my.yaml: expected keys and values"),
        ("just text\n", "my.yaml: "),
        ("a b: 1\n", "my.yaml: a b: expected a key of letters"),
        ("x: {a=b: 1}\n", "my.yaml: x.a=b: expected a key of letters"),
        ("trainer: {epcohs: 1}\n", "unknown key trainer.epcohs; nearest valid ones: trainer.total_epochs"),
        ("model: {path: x}\n", "unknown key model; nearest valid ones: "),
    ],
)
def test_a_wrong_file_is_refused(file, text: str, message: str):
    with pytest.raises(settings.SettingsError) as error:
        settings.compose(expand_files([file(text)]))
    assert message in str(error.value)


def test_a_missing_file_is_named(file, tmp_path: Path):
    with pytest.raises(settings.SettingsError, match=r"no\.yaml: cannot be read: No such file or directory\. Fix: "):
        read_overrides(tmp_path / "no.yaml")
    assert expand_files(["curriculum=my.yaml", "a=b.yaml"]) == ["curriculum=my.yaml", "a=b.yaml"]


def test_an_empty_file_changes_nothing(file):
    assert expand_files([file("# nothing yet\n"), "a=1"]) == ["a=1"]


def test_a_file_is_not_taken_for_a_module():
    assert is_module("recipe.longrl.curriculum")
    assert not is_module("my.yaml")


def test_keys_that_only_groups_have_need_no_plus(file):
    groups = Path(settings.__file__).parent / "config"
    keys = yaml.safe_load((groups / "hardware" / "cpu.yaml").read_text())["actor_rollout_ref"]["actor"]
    assert "mixed_precision" in keys["fsdp_config"]
    name = file("actor_rollout_ref: {actor: {fsdp_config: {mixed_precision: {param_dtype: bf16}}}}")
    config = settings.compose(expand_files([name]))
    assert config.actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype == "bf16"
