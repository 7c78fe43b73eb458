"""The command `longrl`: one name for everything that can be run here.

Each command runs a module of its own, as `python -m MODULE` does, with the same arguments. The module is imported only
when its command is used, so `longrl --help` and shell completion take a fraction of a second.

To add a command, add a line to `SECTIONS`. Its module has either `app`, a Typer app, or `main()`, which reads sys.argv,
with the text `HELP`.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Iterable
from importlib import resources
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import CompletionItem, TyperCommand, TyperGroup

from recipe.longrl.versions import describe_versions

PROGRAM = "longrl"
HELP = """Train language models on long documents with verifiable context rewards.

`longrl COMMAND --help` explains a command. Settings are written KEY=VALUE, or come from a YAML file:

longrl train my.yaml longrl.reward.eta=0.2
"""


class Command(NamedTuple):
    """A command. name: as typed after `longrl`, of one word, or two where the first one is in `GROUPS`."""

    name: str
    module: str
    summary: str


GROUPS = {"data": "Make and check training data"}
"""Commands that have commands of their own, with the beginnings of their summaries."""
SECTIONS = {
    "Begin": [
        Command("demo", "recipe.longrl.demo.run", "Train a tiny model in minutes, without data, model or GPU."),
        Command("doctor", "recipe.longrl.doctor", "Print what a bug report needs: versions, machine, settings."),
    ],
    "Make data": [
        Command("data grounding", "data_gen.grounding.__main__", "Make questions with evidence from documents."),
        Command("data grounded-qa", "data_gen.grounded_qa.__main__", "Make rows from annotated question sets."),
        Command("data keychain", "data_gen.keychain.__main__", "Hide questions behind chains of keys, at any length."),
        Command("data multitask", "data_gen.multitask.__main__", "Make many kinds of task from the same documents."),
        Command("data mix", "data_gen.mix.__main__", "Mix rows of several sources into one training file."),
        Command("data validate", "verl_longrl.data.validate", "Check every row of training files."),
        Command("data diagnose", "data_gen.diagnose.__main__", "Show where a model fails, and what data to make next."),
        Command("demonstrations", "data_gen.demonstrations.__main__", "Make or check demonstrations for a cold start."),
    ],
    "Train": [
        Command("preflight", "recipe.longrl.preflight.__main__", "Check a run and every node before it starts."),
        Command("memory", "recipe.longrl.memory.__main__", "Predict the memory of a GPU in each phase of a step."),
        Command("train", "recipe.longrl.main", "Train with reinforcement learning: check, train, export, report."),
        Command("curriculum", "recipe.longrl.curriculum.__main__", "Train in stages, with mining between them."),
        Command("mine", "recipe.longrl.curriculum.mining", "Keep the rows that a model does not always answer."),
        Command("sft", "recipe.longrl.sft.__main__", "Fine-tune on demonstrations, for a cold start."),
    ],
    "Look at results": [
        Command("report", "recipe.longrl.report", "Print the table of a run, and write its summary and plots."),
        Command("rescore", "recipe.longrl.rescore", "Score the rollouts of a run again, with other scorers."),
        Command("evaluate", "recipe.longrl.evaluation.__main__", "Measure models on long-context benchmarks."),
        Command("export", "recipe.longrl.export", "Write a checkpoint as a Hugging Face folder."),
    ],
}
"""Headings of the help, and their commands."""


def all_commands() -> list[Command]:
    """Every command, in the order of the help."""
    return [command for commands in SECTIONS.values() for command in commands]


def python_module(command: Command) -> str:
    """The module as `python -m` takes it."""
    return command.module.removesuffix(".__main__")


_NAMES = {python_module(command): f"{PROGRAM} {command.name}" for command in all_commands()}
_MODULES = re.compile(rf"(python -m )?\b({'|'.join(map(re.escape, sorted(_NAMES, key=len, reverse=True)))})\b(?!\.?\w)")


def name_commands(text: str) -> str:
    """`text` with `longrl COMMAND` in place of each module of a command.

    >>> name_commands("python -m recipe.longrl.report RUN")
    'longrl report RUN'
    """
    return _MODULES.sub(lambda match: _NAMES[match[2]], text)


class ModuleCommand(TyperCommand):
    """A command whose module reads sys.argv itself: flags, Hydra overrides and files of them."""

    def __init__(self, command: Command, module: ModuleType) -> None:
        super().__init__(command.name.split()[-1], help=name_commands(module.HELP), add_help_option=False)
        self._module = module

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Leave all arguments to the module."""
        ctx.args = list(args)
        return ctx.args

    def get_help(self, ctx: typer.Context) -> str:  # type: ignore[override]
        """The module's own text."""
        return (self.help or "").strip()

    def invoke(self, ctx: typer.Context) -> None:  # type: ignore[override]
        """Run the module with the arguments in sys.argv."""
        if {"--help", "-h"} & {*ctx.args}:
            print(self.get_help(ctx))
            return
        try:
            self._module.main()
        except KeyboardInterrupt:
            # Typer would exit with status 1, which says that rerunning the command fails again.
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.exit(130)

    def shell_complete(self, ctx: typer.Context, incomplete: str) -> list[CompletionItem]:  # type: ignore[override]
        """The module's flags, or the choices of a configuration group."""
        # bash takes `=` for a word of its own: method=loo is three words.
        group = ctx.args[-2] if ctx.args[-1:] == ["="] and len(ctx.args) > 1 else None
        if group is not None:
            return _completions(_choices(group), incomplete)
        if incomplete.startswith("-"):
            return _completions(getattr(self._module, "FLAGS", ("--help",)), incomplete)
        choices = [f"{group}={choice}" for group in ("method", "model", "hardware") for choice in _choices(group)]
        return _completions(choices, incomplete) if incomplete else []


def _choices(group: str) -> list[str]:
    """The choices of a configuration group, without those of the demos; none for another key."""
    folder = resources.files("recipe.longrl.config").joinpath(group)
    names = [file.name.removesuffix(".yaml") for file in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if not name.startswith(("demo", "_")))


def _completions(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class CommandGroup(TyperGroup):
    """Commands by name. Those that run a module are listed by their summaries, and imported when they are used."""

    def resolve_command(  # type: ignore[override]
        self, ctx: typer.Context, args: list[str]
    ) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name, imported. An unknown one ends the process, with the nearest named."""
        asked = args[0]
        if asked not in self.commands and not asked.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(describe_unknown(ctx.command_path, asked))
        name, listed, rest = super().resolve_command(ctx, args)
        if not isinstance(listed, ListedCommand):
            return name, listed, rest
        if not ctx.resilient_parsing:
            # As `python -m` does: programs read and record their arguments, and find modules in this folder.
            sys.argv = [listed.command.module, *rest]
            sys.path.append(os.getcwd())
        return name, listed.load(), rest


class ListedCommand(TyperCommand):
    """A command that is not imported yet."""

    def __init__(self, command: Command, section: str | None) -> None:
        super().__init__(command.name.split()[-1], help=command.summary, rich_help_panel=section)
        self.command = command

    def load(self) -> Any:
        """The command itself. Imports its module."""
        module = importlib.import_module(self.command.module)
        if not hasattr(module, "app"):
            return ModuleCommand(self.command, module)
        loaded = typer.main.get_command(module.app)
        loaded.name = self.name
        _name_commands_in_help(loaded)
        return loaded


def _name_commands_in_help(command: Any) -> None:
    for described in (command, *command.params):
        if getattr(described, "help", None):
            described.help = name_commands(described.help)
    for inner in getattr(command, "commands", {}).values():
        _name_commands_in_help(inner)


def describe_unknown(path: str, name: str) -> str:
    """The error message for an unknown command below `path`, with the one that was probably meant."""
    if "=" in name or name.endswith((".yaml", ".yml")):
        return f"{name} is a setting, and no command is named. Fix: {PROGRAM} train {name}"
    # Last words are compared: `longrl keychain` means `longrl data keychain`.
    names = {full.rpartition(" ")[2]: full for full in (*(f"{PROGRAM} {group}" for group in GROUPS), *_NAMES.values())}
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {names[near[0]]}?" if near else f"{PROGRAM} --help lists all"
    return f"unknown command {path} {name}; {hint}"


app = typer.Typer(name=PROGRAM, cls=CommandGroup, help=HELP, no_args_is_help=True, rich_markup_mode="markdown")


def _show_version(asked: bool) -> None:
    if asked:
        print(describe_versions())
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the versions of LongRL and its main dependencies.",
            is_eager=True,
            callback=_show_version,
        ),
    ] = False,
) -> None:
    pass


def build() -> CommandGroup:
    """The command line, with every command listed and none imported."""
    root: Any = typer.main.get_command(app)
    for section, commands in SECTIONS.items():
        for command in commands:
            if " " not in command.name:
                root.add_command(ListedCommand(command, section))
                continue
            group, name = command.name.split()
            if group not in root.commands:
                root.add_command(CommandGroup(name=group, no_args_is_help=True, rich_help_panel=section))
            root.commands[group].add_command(ListedCommand(command, None))
    for name, summary in GROUPS.items():
        root.commands[name].help = f"{summary}: {', '.join(root.commands[name].commands)}."
    return root


def main() -> None:
    """Run the command in sys.argv."""
    build()(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
