"""Unknown flags are refused with the nearest one, by every command that takes overrides; --version."""

import sys
from importlib import metadata

import pytest

from recipe.longrl import command_flags, main, settings
from recipe.longrl.curriculum import __main__ as curriculum
from recipe.longrl.curriculum import mining
from recipe.longrl.demo import run as demo_run
from recipe.longrl.preflight import __main__ as preflight

pytestmark = pytest.mark.engine


def test_flags_and_overrides_are_told_apart():
    assert command_flags.split_flags(["--config", "a=-1", "~b", "+c=1"], main.FLAGS) == (
        {"--config"},
        ["a=-1", "~b", "+c=1"],
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--dryrun", "unknown option --dryrun; did you mean --dry-run?"),
        ("--verison", "did you mean --version?"),
        ("--dry-run=true", "did you mean --dry-run?"),
        ("-m", "unknown option -m; options: --dry-run, --config"),
        ("--learning-rate=1", "A setting is written without dashes: learning_rate=1"),
    ],
)
def test_an_unknown_flag_is_named(flag: str, message: str):
    with pytest.raises(settings.SettingsError) as error:
        command_flags.split_flags(["a=1", flag, "b=2"], main.FLAGS)
    assert message in str(error.value)


@pytest.mark.parametrize("command", [main.main, preflight.check_and_show, curriculum.main, mining.main])
def test_every_command_refuses_before_it_composes(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        command(["--hlep"])
    assert "unknown option --hlep; did you mean --help?" in capsys.readouterr().err + str(exit_.value.code)


@pytest.fixture
def demo(monkeypatch, capsys):
    """demo(arguments) -> exit status, output and errors of the demo's command, which must not come to building."""

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(demo_run, "build_assets", lambda *_: pytest.fail("the demo was built"))
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        status: object = 0
        try:
            demo_run.main()
        except SystemExit as ending:
            status = ending.code
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dryrun",), "did you mean --dry-run?"),
        (("model=qwen2.5-7b-1m",), "model=qwen2.5-7b-1m: the demo trains its own model on its own data"),
        (("data={train_files: [a.parquet]}",), "data.train_files=['a.parquet']: the demo trains its own"),
        (("+actor_rollout_ref={model: {path: x}}",), "actor_rollout_ref.model.path=x: the demo trains its own"),
    ],
)
def test_the_demo_trains_nothing_else(demo, arguments: tuple[str, ...], message: str):
    status, _, errors = demo(*arguments)
    assert status == 2
    assert message in errors


def test_the_demos_help_is_about_the_demo(demo):
    _, shown, _ = demo("--help")
    assert "built in outputs/demo/assets" in shown
    assert "required:" not in shown


def test_the_demos_own_configuration_is_shown(demo):
    status, shown, _ = demo("--config", "model=demo")
    assert status == 0
    assert "outputs/demo/assets/train.parquet" in shown


def test_versions(capsys):
    main.main(["--version"])
    shown = capsys.readouterr().out
    assert shown.startswith("longrl ")
    for package in ("verl", "torch", "ray", "transformers"):
        assert f"{package} {metadata.version(package)}" in shown
