"""The command `longrl`: what it lists, starts and refuses, how quickly, and what it completes."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from recipe.longrl import cli

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "COLUMNS": "200", "PYTHONPATH": f"{ROOT / 'verl'}:{ROOT}"}


def plain(shown: str) -> str:
    """A text without the boxes around it, in one line."""
    return " ".join(shown.replace("│", " ").split())


@pytest.fixture
def call(monkeypatch, capsys):
    """call(arguments) -> exit status, output and errors of `longrl`, in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def called(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["longrl", *arguments])
        with pytest.raises(SystemExit) as ending:
            cli.main()
        return ending.value.code, *capsys.readouterr()

    return called


def test_the_help_is_a_table_of_contents(call):
    status, shown, _ = call("--help")
    assert status == 0
    positions = [shown.index(f"─ {heading} ─") for heading in cli.SECTIONS]
    assert positions == sorted(positions)
    for command in cli.all_commands():
        assert re.search(rf"\b{command.name.split()[0]}\b", shown)
    assert "grounding, grounded-qa, keychain, multitask, mix, validate, diagnose." in plain(shown)


def test_help_and_completion_import_nothing_heavy():
    heavy = ("torch", "verl", "vllm", "ray", "transformers", "hydra", "pyarrow", "numpy", "omegaconf")
    code = f"""
import sys
from recipe.longrl.cli import main
try:
    main()
except SystemExit as ending:
    assert not ending.code
loaded = [name for name in {heavy} if name in sys.modules]
assert not loaded, loaded
"""
    complete = {"_LONGRL_COMPLETE": "complete_bash", "COMP_WORDS": "longrl da", "COMP_CWORD": "1"}
    for arguments, variables in ((["--help"], {}), (["data", "--help"], {}), ([], complete)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=ENVIRONMENT | variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_the_console_script_is_installed():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["longrl"].partition(":")
    assert getattr(importlib.import_module(module), function) is cli.main


@pytest.mark.engine
@pytest.mark.parametrize("command", cli.all_commands(), ids=lambda command: command.name)
def test_every_command_opens_and_explains_itself(command: cli.Command, call):
    status, shown, errors = call(*command.name.split(), "--help")
    assert status in (0, None), errors
    assert f"longrl {command.name}" in shown
    # No other name of a command is left in a text.
    assert cli.name_commands(shown) == shown


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trian", "longrl train"),
        ("eval", "longrl evaluate"),
        ("keychain", "longrl data keychain"),
        ("keychian", "longrl data keychain"),
        ("validate", "longrl data validate"),
        ("data grouding", "longrl data grounding"),
        ("data grounded_qa", "longrl data grounded-qa"),
        ("dta", "longrl data"),
    ],
)
def test_an_unknown_command_is_refused_with_the_nearest(typed: str, meant: str, call):
    status, _, errors = call(*typed.split())
    assert status == 2
    assert f"unknown command longrl {typed}; did you mean {meant}?" in plain(errors)


def test_nothing_is_guessed_for_another_word(call):
    status, _, errors = call("xyzzy")
    assert status == 2
    assert "unknown command longrl xyzzy; longrl --help lists all" in plain(errors)


@pytest.mark.parametrize("setting", ["hardware=cpu", "my.yaml"])
def test_a_setting_without_a_command_says_where_it_belongs(setting: str, call):
    status, _, errors = call(setting)
    assert status == 2
    assert f"Fix: longrl train {setting}" in plain(errors)


@pytest.fixture
def module(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """module(main) -> the module of `longrl demo` has this function."""

    def replace(main: Callable[[], object]) -> None:
        fake = ModuleType("demo")
        fake.main, fake.HELP = main, "usage: python -m recipe.longrl.demo.run"  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "recipe.longrl.demo.run", fake)

    return replace


def test_a_module_reads_the_arguments_that_python_would_give_it(call, module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module(lambda: print(json.dumps([sys.argv, sys.path[-1]])))
    arguments = ["--dry-run", "a=[1,2]", "~b", "+c='x y'", "--", "-x"]
    status, shown, _ = call("demo", *arguments)
    assert status == 0
    assert json.loads(shown) == [["recipe.longrl.demo.run", *arguments], str(tmp_path)]


def test_the_status_of_a_command_is_that_of_its_module(call, module):
    module(lambda: sys.exit(75))
    assert call("demo")[0] == 75


def test_ctrl_c_does_not_look_like_a_failure(call, module):
    def interrupt() -> None:
        raise KeyboardInterrupt

    module(interrupt)
    status, _, errors = call("demo")
    assert status == 130
    assert "KeyboardInterrupt" in errors


def test_the_help_of_a_module_names_the_command(call, module):
    module(lambda: pytest.fail("the module was run"))
    status, shown, _ = call("demo", "a=1", "--help")
    assert status == 0
    assert shown == "usage: longrl demo\n"


def test_a_typer_app_reports_its_own_errors(call, tmp_path: Path):
    status, _, errors = call("report", str(tmp_path))
    assert status == 2
    assert "Usage: longrl report" in errors


def test_modules_in_texts_become_commands():
    for text, named in {
        "python -m recipe.longrl.main a=1": "longrl train a=1",
        "python -m data_gen.grounding run": "longrl data grounding run",
        "those of recipe.longrl.main.": "those of longrl train.",
        "recipe.longrl.curriculum.mining": "longrl mine",
        "recipe.longrl.curriculum": "longrl curriculum",
        "recipe.longrl.curriculum.plan": "recipe.longrl.curriculum.plan",
        "recipe.longrl.maintenance": "recipe.longrl.maintenance",
    }.items():
        assert cli.name_commands(text) == named


@pytest.fixture
def complete(call, monkeypatch):
    """complete(words) -> what bash gets for the last word, which may be empty."""

    def completed(words: str) -> list[str]:
        monkeypatch.setenv("_LONGRL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        status, shown, errors = call()
        assert status == 0, errors
        return shown.split()

    return completed


def test_commands_complete(complete):
    assert complete("longrl ") == [*dict.fromkeys(command.name.split()[0] for command in cli.all_commands())]
    assert complete("longrl data k") == ["keychain"]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("longrl report --he", ["--help"]),
        ("longrl data mix --to", ["--total", "--tokenizer"]),
        ("longrl curriculum --d", ["--dry-run"]),
        ("longrl curriculum method = lo", ["longrlvr", "loongrl"]),
        ("longrl curriculum hardware=1g", ["hardware=1gpu"]),
        ("longrl curriculum my", []),
        ("longrl nonsense my", []),
    ],
)
def test_arguments_complete(words: str, expected: list[str], complete):
    assert complete(words) == expected


def test_names_of_commands_can_be_told_apart():
    # A command is suggested by its last word.
    words = [command.name.split()[-1] for command in cli.all_commands()]
    assert len({*words}) == len(words)
