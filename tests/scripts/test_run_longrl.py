"""run_longrl.sh quotes the values of its variables so that Hydra reads them unchanged."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from recipe.longrl import settings

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[2]
FILES = {"TRAIN_FILES": "t", "VAL_FILES": "v", "MODEL_PATH": "m"}


@pytest.fixture
def launched(tmp_path: Path):
    """launched(arguments, environment) -> the finished script, whose fake Python prints its arguments."""
    for name in ("runs", "ray"):
        shutil.copytree(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    shutil.copy(ROOT / "run_longrl.sh", tmp_path)
    (tmp_path / "scripts" / "setup.sh").write_text("exit 0\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/usr/bin/env bash\nprintf '%s\\0' \"$@\"\n")
    python.chmod(0o755)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        unset = ("TRAIN_FILES", "VAL_FILES", "MODEL_PATH", "CKPT_SAVE_PATH", "EXPERIMENT_NAME", "LONGRL_VENV")
        unset += ("RAY_ADDRESS", "LONGRL_PREFLIGHT")
        clean = {key: value for key, value in os.environ.items() if key not in unset}
        command = ["bash", str(tmp_path / "run_longrl.sh"), *arguments]
        return subprocess.run(command, env=clean | environment, capture_output=True, text=True)

    return run


def calls(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The modules that were run, with their arguments."""
    assert done.returncode == 0, done.stderr
    return [call.split("\0")[:-1] for call in done.stdout.split("-m\0")[1:]]


@pytest.fixture
def overrides(launched):
    """overrides(arguments, environment) -> the arguments that run_longrl.sh passes to recipe.longrl.main."""

    def run(*arguments: str, **environment: str) -> list[str]:
        ((module, *given),) = calls(launched(*arguments, **environment))
        assert module == "recipe.longrl.main"
        return given

    return run


@pytest.mark.parametrize("value", ["/ckpt/step=100(1)", "/a b,c/{d}", "/data/[x].parquet", "it's \\'$HOME\\"])
def test_paths_are_passed_unchanged(overrides, value: str):
    given = overrides(
        "trainer.save_freq=7",
        TRAIN_FILES=value,
        VAL_FILES=value,
        MODEL_PATH=value,
        CKPT_SAVE_PATH=value,
        EXPERIMENT_NAME="run=1",
    )
    config = settings.compose(given)
    assert config.data.train_files == config.data.val_files == value
    assert config.actor_rollout_ref.model.path == config.trainer.default_local_dir == value
    assert config.trainer.experiment_name == "run=1"
    assert config.trainer.save_freq == 7


HOSTILE = [
    *(
        "hdfs://a/b",
        "plain/name",
        "/ckpt/it's",
        "C:\\",
        "\\",
        "\\\\",
        "a\\'b",
        "a\\\\'",
        "'",
        "''",
        "'a'",
        "\\'",
        "a\\nb",
        'a"b',
        '"',
        "[a",
        "a]",
    ),
    *(
        "[",
        "]",
        "a\nb",
        "tab\t",
        "$HOME",
        "$",
        "$(id)",
        "`id`",
        "a;id",
        "a&b",
        "a|b",
        "*",
        "~",
        "~/a",
        "!",
        "#a",
        "null",
        "true",
    ),
    *(
        "1e3",
        "a: b",
        "--config",
        "-m",
        "é ü",
        "%s%n",
        "?",
        " leading",
        "trailing ",
        "{a:b}",
        "a,b",
        "..",
        "x=y=z",
        "@a",
        "+a",
    ),
]


def test_any_value_survives_quoting_for_hydra():
    """As above, without a composition, which takes a second for each value."""
    common = (ROOT / "scripts" / "runs" / "common.sh").read_text()
    function = common[common.index("quoted() {") : common.index("\n}\n", common.index("quoted() {")) + 3]
    script = function + "for value; do quoted \"$value\"; printf '\\0'; done"
    done = subprocess.run(["bash", "-euc", script, "bash", *HOSTILE], capture_output=True, text=True, check=True)
    parser = OverridesParser.create()
    arrived = [parser.parse_override(f"a={quoted}").value() for quoted in done.stdout.split("\0")[:-1]]
    assert [OmegaConf.create({"a": value}).a for value in arrived] == HOSTILE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRAIN_FILES", "['${oc.env:HOME}']"),
        ("VAL_FILES", "${oc.env:HOME}"),
        ("MODEL_PATH", "\\${x}"),
        ("CKPT_SAVE_PATH", "/a/${x}"),
        ("EXPERIMENT_NAME", "a${"),
    ],
)
def test_interpolations_in_names_are_rejected(launched, name: str, value: str):
    done = launched(**{**FILES, name: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} = '{value}': Hydra would replace" in done.stderr


def test_lists_of_files(overrides):
    given = overrides(TRAIN_FILES="['a.parquet','b=1.parquet']", VAL_FILES="[c.parquet]", MODEL_PATH="m")
    config = settings.compose(given)
    assert list(config.data.train_files) == ["a.parquet", "b=1.parquet"]
    assert list(config.data.val_files) == ["c.parquet"]
    assert config.trainer.experiment_name == "longrlvr"
    assert config.trainer.default_local_dir.endswith("checkpoints")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dry-run",),
        ("method=loongrl", "trainer.total_training_steps=3"),
        ("longrl.reward.eta=0.2",),
        ("model=demo",),
        ("model=demo", "longrl.reward.scorers=[my_rewards.py]"),
        ("data.train_batch_size=4", "actor_rollout_ref.model.use_liger=false", "data.train_files=null"),
    ],
)
def test_the_demo_runs_without_data_and_model(launched, arguments: tuple[str, ...]):
    assert calls(launched(*arguments)) == [["recipe.longrl.demo.run", *arguments]]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("model=qwen2.5-7b-1m", "data.train_files=[a]", "data.val_files=[b]"), ()),
        (("+model='qwen2.5-7b-1m'", "++data.train_files=[a]", "+data.val_files='b'"), ()),
        (("actor_rollout_ref.model.path=x", "data.train_files=[a]", "data.val_files=[b]"), ()),
        (("model=demo", "data.train_files=[a]", "data.val_files=[b]"), ()),
        (("model=qwen2.5-7b-1m",), ("TRAIN_FILES", "VAL_FILES")),
        (("model=custom", "++actor_rollout_ref.model.path='x'"), ("TRAIN_FILES", "VAL_FILES")),
        (("data.train_files=[a]",), ("VAL_FILES", "MODEL_PATH")),
        (("model=demo",), ("TRAIN_FILES", "VAL_FILES", "MODEL_PATH")),
    ],
)
def test_given_data_and_model_are_trained(overrides, arguments: tuple[str, ...], variables: tuple[str, ...]):
    """Variables and overrides are combined, without anything from the demo."""
    given = overrides(*arguments, **{name: FILES[name] for name in variables})
    assert given[-len(arguments) :] == list(arguments)
    keys = {"TRAIN_FILES": "data.train_files", "VAL_FILES": "data.val_files"}
    keys["MODEL_PATH"] = "actor_rollout_ref.model.path"
    ours = [f"{keys[name]}='{FILES[name]}'" for name in variables]
    assert given[: -len(arguments)] == [*ours, "trainer.experiment_name='longrlvr'"]


@pytest.mark.parametrize(
    ("arguments", "variables", "missing"),
    [
        (("model=qwen2.5-7b-1m",), (), "set TRAIN_FILES VAL_FILES (see"),
        (("data.train_files=[a]",), (), "set VAL_FILES MODEL_PATH (see"),
        (("data.val_files=[a]", "model=custom"), (), "set TRAIN_FILES MODEL_PATH (see"),
        (("model=custom",), (), "set TRAIN_FILES VAL_FILES MODEL_PATH (see"),
        (("model=demo", "actor_rollout_ref.model.path=x"), (), "set TRAIN_FILES VAL_FILES (see"),
        (("model=qwen2.5-7b-1m", "--config", "--dry-run"), (), "set TRAIN_FILES VAL_FILES (see"),
        (("actor_rollout_ref.model.path=x",), ("VAL_FILES",), "set TRAIN_FILES (see"),
        ((), ("TRAIN_FILES", "VAL_FILES"), "set MODEL_PATH (see"),
        (("longrl.reward.scorers=[my_rewards.py]",), (), "no data is given. Fix: set TRAIN_FILES"),
    ],
)
def test_missing_values_are_named(launched, arguments, variables, missing: str):
    done = launched(*arguments, **{name: FILES[name] for name in variables})
    assert (done.returncode, done.stdout) == (2, "")
    assert missing in done.stderr


@pytest.mark.parametrize("flag", ["--config", "--config=changed", "--version"])
def test_printing_the_configuration_needs_no_data(overrides, flag: str):
    given = overrides("model=qwen2.5-7b-1m", flag)
    assert given == ["trainer.experiment_name='longrlvr'", "model=qwen2.5-7b-1m", flag]


@pytest.mark.parametrize(
    ("environment", "arguments", "looked"),
    [
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, (), True),
        ({"RAY_ADDRESS": "10.0.0.1:6379", "LONGRL_PREFLIGHT": "0"}, (), False),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, ("--dry-run",), False),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, ("--config=changed",), False),
        ({"RAY_ADDRESS": "local"}, (), False),
        ({}, (), False),
    ],
)
def test_a_running_cluster_is_checked_first(launched, environment, arguments, looked: bool):
    *before, (module, *given) = calls(launched(*arguments, **FILES, **environment))
    assert module == "recipe.longrl.main"
    assert before == ([["recipe.longrl.preflight", *given]] if looked else [])
