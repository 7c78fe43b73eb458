"""Every documented command line works: a shell parses it, and the program parses its arguments.

bash runs each command in a copy of the repository's scripts, in an environment whose programs only note that they were
called. Programs of ours then run here with those arguments, up to the point where the work begins: the configuration is
composed, the command line is parsed, unknown options, keys and groups are refused.
"""

import argparse
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from support import documented_commands
from verl_longrl.config import LongRLConfig

from data_gen import cli
from data_gen.grounding.pipeline import GROUNDING
from data_gen.multitask.pipeline import MULTITASK
from recipe.longrl import cli as longrl
from recipe.longrl import ray_job, settings

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")]
ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
DOCUMENTS = documented_commands.documents(ROOT, TRACKED)

RUN = "model=qwen2.5-7b-1m hardware=8gpu data.train_files=[train.parquet] data.val_files=[val.parquet]"
PLACEHOLDERS = {  # as documents write them: what is typed for it
    "longrl COMMAND": "longrl train",
    "-m MODULE": "-m recipe.longrl.main",
    "[hydra overrides...]": "",
    "[overrides...]": "",
    "overrides...": "",
    "OVERRIDES": RUN,
    "model=... hardware=...": "model=qwen2.5-7b-1m hardware=8gpu",
    "data.train_files=[...] ...": "data.train_files=[train.parquet] data.val_files=[val.parquet]",
    "TRAIN_FILES=... VAL_FILES=...": "TRAIN_FILES=train.parquet VAL_FILES=val.parquet",
    "--output ...": "--output outputs/mydata",
    "submit.sh ...": f"submit.sh {RUN}",
    "recipe.longrl.main ...": f"recipe.longrl.main {RUN}",
    "[--timeout SECONDS]": "--timeout 60",
    "[MODULE]": "recipe.longrl.main",
    "/path/to/documents": "documents",
    "input DOCS": "input documents",
    "output DIR": "output outputs/mydata",
    "FOLDER": "documents",
    "HOSTFILE": "hosts",
    "path=MODEL ": "path=model ",
    "HOST:": "host:",
    "$SLURM_ARRAY_TASK_ID": "0",
}
CONTINUES = {  # a block that is only the end of a command, by how it begins: the command
    "haystack.files=": "python -m data_gen.keychain run --input questions.json --output outputs/keychain",
    "servers.writer.": "python -m data_gen.multitask run --input documents --output outputs/multitask",
    "servers.4b.": "python -m data_gen.multitask run --input documents --output outputs/multitask",
}
ADDED = {  # where the command itself would reach other machines
    "scripts/audit.sh": "--help",
    "scripts/lock.sh": "--help",
    "scripts/slurm/submit.sh": "--dry-run",
    "scripts/ray/start.sh": "--help",
    "scripts/ray/stop.sh": "--help",
}
READS_ON = (
    "data_gen.grounding",
    "data_gen.grounded_qa",
    "data_gen.keychain",
    "data_gen.multitask",
    "recipe.longrl.memory",
)
"""Programs that parse keys and values themselves, after the options."""
OTHERS = ("git", "mypy", "pip", "pre-commit", "ray", "ruff", "sbatch", "tensorboard")
"""Programs of others, which are not started."""


class Reached(BaseException):
    """The whole command line was parsed; the work would follow."""


def stop(*_: object, **__: object) -> None:
    raise Reached


def complete(command: str) -> str:
    """A documented command with values for its placeholders."""
    for begin, before in CONTINUES.items():
        if command.startswith(begin):
            command = f"{before} {command}"
    for placeholder, typed in PLACEHOLDERS.items():
        command = command.replace(placeholder, typed)
    command = re.sub(r" \[(--?[\w-]+|[a-z_.]+=\w+)\]", r" \1", command)  # optional arguments
    for script, added in ADDED.items():
        command = command.replace(script, f"{script} {added}")
    if re.fullmatch(r"python (-m )?[\w./]+|longrl( [a-z-]+)+", command):
        command += " --help"  # named without what it needs
    command = re.sub(r"^(?=[\w/]+\.sh\b)", "bash ", command)
    program = re.sub(r"^([A-Z_]+=(\"[^\"]*\"|\S*) +)*", "", command).split()[0]
    assert re.fullmatch(r"[\w.]+=.*", program) is None, f"{command}: the end of which command? Say it in CONTINUES"
    assert program in ("bash", "source", "longrl", "python", "vllm", *OTHERS), (
        f"{command}: a new program; say it in OTHERS"
    )
    left = re.search(r"\.\.\.|(?<=[ =])[A-Z]{3,}(?= |$)|\[[a-z]+ ", re.sub(r"\s#.*", "", command))
    assert left is None, f"{command}: what is typed for {left[0] if left else ''}? Say it in PLACEHOLDERS"
    return command


@pytest.fixture
def shell(tmp_path: Path, monkeypatch):
    """shell(command) -> the programs that it would start, each with its arguments."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_longrl.sh", tmp_path)
    for name in ("recipe", "data_gen", "verl"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "scripts" / "setup.sh").write_text('[[ " cpu gpu eval bfcl " == *" ${1:-cpu} "* ]]\n')
    (tmp_path / "docs").mkdir()
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for program in ("longrl", "python", "vllm", *OTHERS):
        (folder / program).write_text("#!/bin/bash\nprintf '%s\\0' \"${0##*/}\" \"$@\" $'\\x1e' >>started\n")
        (folder / program).chmod(0o755)
    activate = (Path(sys.prefix) / "bin" / "activate").read_text()
    (folder / "activate").write_text(activate.replace(sys.prefix, str(tmp_path / ".venv")))
    (tmp_path / "my.yaml").write_text("data: {train_files: [a.parquet]}\n")
    (tmp_path / "grounding.yaml").write_text(GROUNDING.config.default_yaml())
    (tmp_path / "outputs" / "diagnosis").mkdir(parents=True)
    (tmp_path / "outputs" / "diagnosis" / "next.yaml").write_text(MULTITASK.config.default_yaml())
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> list[list[str]]:
        activated = 'source .venv/bin/activate; [ "$(command -v python)" = "$PWD/.venv/bin/python" ]'
        script = f"set -euo pipefail\n{activated}\n{command}\n"
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "USER": "someone"}
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        started = tmp_path / "started"
        calls = started.read_text().split("\x1e\0")[:-1] if started.exists() else []
        return [call.split("\0")[:-1] for call in calls]

    return run


@pytest.fixture
def read(monkeypatch, capsys):
    """read(arguments of python): have one of our programs parse its command line; fails if it rejects it."""

    def checked(config, *_: object, **__: object) -> None:
        LongRLConfig.from_dict(settings.plain(config.longrl))
        raise Reached

    def parsed(parser, *arguments, _parse=argparse.ArgumentParser.parse_args, **options):
        _parse(parser, *arguments, **options)
        raise Reached

    monkeypatch.setattr(settings, "resolve", checked)
    monkeypatch.setattr(cli, "open_store", stop)
    monkeypatch.setattr("data_gen.export_stage.prompt_counter", stop)
    for module in ("assets", "run"):
        monkeypatch.setattr(f"recipe.longrl.demo.{module}.build_assets", stop)
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)

    def read(program: str, *arguments: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [program, *arguments])
            if program not in READS_ON:
                patch.setattr(typer.core.TyperCommand, "invoke", stop, raising=False)
            try:
                if program.endswith(".py"):
                    patch.syspath_prepend(str(ROOT / "scripts"))
                    runpy.run_path(str(ROOT / program), run_name="__main__")
                else:
                    runpy.run_module(program, run_name="__main__", alter_sys=True)
            except Reached:
                return
            except SystemExit as ended:
                if ended.code:
                    pytest.fail(f"{program} {shlex.join(arguments)}: {ended.code}\n{capsys.readouterr()}")

    return read


def as_module(arguments: list[str]) -> list[str]:
    """The module, and its arguments, that a command line of `longrl` runs; [] where an option of its own is used."""
    if arguments[0].startswith("-"):
        assert arguments[0] in {"--help", *(name for option in longrl.build().params for name in option.opts)}
        return []
    for command in longrl.all_commands():
        words = command.name.split()
        if arguments[: len(words)] == words:
            return [longrl.python_module(command), *arguments[len(words) :]]
    pytest.fail(longrl.describe_unknown("longrl", " ".join(arguments)))


COMMANDS = {command: name for name, text in DOCUMENTS.items() for command in documented_commands.commands(text)}


@pytest.mark.parametrize("command", [pytest.param(text, id=f"{name}: {text}") for text, name in COMMANDS.items()])
def test_documented_commands_parse(command: str, shell, read):
    for program, *arguments in shell(complete(command)):
        if program == "vllm":
            from vllm.entrypoints.openai.cli_args import make_arg_parser
            from vllm.utils.argparse_utils import FlexibleArgumentParser

            assert arguments.pop(0) == "serve"
            with pytest.raises(Reached):
                make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
        elif program in ("python", "longrl"):
            if program == "longrl" and not (arguments := as_module(arguments)):
                continue
            if arguments[0] == "-m":
                arguments.pop(0)
            if arguments[0] == "recipe.longrl.ray_job":  # hands the rest to a module on the cluster
                arguments = [argument for argument in arguments[1:] if argument != "--no-wait"]
                if not ray_job.is_module(arguments[0]):
                    arguments.insert(0, ray_job.TRAINING)
            if arguments[0] != "pytest":
                read(*arguments)


@pytest.mark.parametrize(
    "command",
    [
        "python -m recipe.longrl.main model=qwen2.5-7b-1m hardware=9gpu",
        "python -m recipe.longrl.main --dryrun",
        "python -m recipe.longrl.memory model=qwen2.5-7b-1m longrl.reward.etta=1",
        "python -m recipe.longrl.curriculum curriculum=loongrl-7c",
        "python -m data_gen.grounding run --input documents --outptu outputs/mydata",
        "python -m data_gen.grounding run --output outputs/mydata chunk.max_tokns=1",
        "python -m data_gen.grouding run",
        "longrl trian my.yaml",
        "longrl train yours.yaml",
        "longrl data mix --outptu outputs/mydata",
        "longrl --instal-completion",
        "python scripts/bench/rewards.py --rounds 5",
        "python scripts/compare_methods.py --sedes 3",
        "python scripts/compare_method.py",
        "bash scripts/slurm/submit.sh --nodes=2 data.train_file=[a.parquet]",
        "bash run_longr.sh",
        "vllm serve a/model --prot 8001",
    ],
)
def test_outdated_commands_are_noticed(command: str, shell, read):
    with pytest.raises((AssertionError, pytest.fail.Exception, ImportError, OSError, ValueError, SystemExit)):
        test_documented_commands_parse(command, shell, read)


@pytest.mark.parametrize(
    ("command", "message"), [("x.y=1", "CONTINUES"), ("make all", "OTHERS"), ("python -m a KIND", "PLACEHOLDERS")]
)
def test_an_unknown_placeholder_is_explained(command: str, message: str):
    with pytest.raises(AssertionError, match=message):
        complete(command)


@pytest.mark.parametrize("name", [name for name, text in DOCUMENTS.items() if [*documented_commands.references(text)]])
def test_files_named_in_documents_exist(name: str):
    missing = [path for path in documented_commands.references(DOCUMENTS[name]) if not any(ROOT.glob(path.rstrip("/")))]
    assert missing == []


def test_the_lists_are_not_empty():
    assert len(COMMANDS) > 30
    assert {"source .venv/bin/activate", "python -m data_gen.grounding config > grounding.yaml"} <= {
        command.split("  ")[0] for command in COMMANDS
    }
