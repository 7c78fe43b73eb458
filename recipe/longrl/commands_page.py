"""Write docs/commands.md, the page of the command line, from the commands of `longrl` and their help.

python -m recipe.longrl.commands_page > docs/commands.md
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from recipe.longrl import cli

INTRODUCTION = """# Commands

Everything is a command of `longrl`, which `bash scripts/setup.sh` installs into `.venv/bin`. Generated from the
commands with `python -m recipe.longrl.commands_page > docs/commands.md`.

`longrl COMMAND --help` prints the same as this page. Each command runs a module: `python -m MODULE` with the same
arguments does the same. `longrl --install-completion` completes commands, options and the choices of `method=`,
`model=` and `hardware=` in your shell.

## Settings

A setting is written `KEY=VALUE`; [configuration.md](configuration.md) lists the keys. The commands that take settings
of a run (train, curriculum, mine, sft, preflight, memory and demo) also take YAML files of them:

```yaml
# my.yaml
model: qwen2.5-7b-1m
hardware: 8gpu
data:
  train_files: [train.parquet]
  val_files: [val.parquet]
trainer:
  experiment_name: mine
longrl:
  reward: {eta: 0.2}
```

`longrl train my.yaml trainer.total_epochs=2` trains with these settings. A setting that is typed takes precedence over
files, and a later file over an earlier one. Files have the shape that `--config` prints. Paths in them are relative to
the current folder. In a file for a curriculum, a stage has a key of its own: `stage1: {trainer: {total_epochs: 2}}`.
"""


def page() -> str:
    """The text of docs/commands.md. Imports the module of every command."""
    blocks, root = [INTRODUCTION.strip()], cli.build()
    for section, commands in cli.SECTIONS.items():
        names = (f"longrl {command.name}" for command in commands)
        links = [f"[`{name}`](#{name.replace(' ', '-')})" for name in names]
        summaries = zip(links, (command.summary for command in commands), strict=True)
        blocks += [f"## {section}", *_tables("command", summaries)]
        for command in commands:
            blocks += [f"### longrl {command.name}", f"Runs `python -m {cli.python_module(command)}`."]
            blocks += _describe(_load(root, command))
    return "\n\n".join(blocks) + "\n"


def _load(root: Any, command: cli.Command) -> Any:
    listed = root
    for word in command.name.split():
        listed = listed.commands[word]
    return listed.load()


def _describe(command: Any) -> Iterator[str]:
    """Paragraphs and tables of a command and of the commands inside it."""
    if isinstance(command, cli.ModuleCommand):
        text = (command.help or "").strip()
        yield f"```text\n{text}\n```"
        return
    yield from _paragraphs(command.help or "")
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield from _tables("argument", _arguments(command))
        return
    yield from _tables("command", ((f"`{name}`", each.help) for name, each in inner.items()))
    # The stages of a pipeline have the same arguments.
    names: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, each in inner.items():
        names.setdefault(_arguments(each), []).append(f"`{name}`")
    for arguments, same in names.items():
        if arguments:
            yield f"Arguments of {', '.join(same)}:"
            yield from _tables("argument", arguments)


def _paragraphs(text: str) -> Iterator[str]:
    """A help text as Markdown: lines that are indented are code."""
    # Typer reads \b as the beginning of a paragraph whose lines are not joined.
    for kind, group in groupby(text.replace("\b", "").splitlines(), key=_kind_of_line):
        joined = "\n".join(line.strip() for line in group)
        if kind != "blank":
            yield f"```text\n{joined}\n```" if kind == "code" else joined


def _kind_of_line(line: str) -> str:
    if not line.strip():
        return "blank"
    return "code" if line.startswith(" ") else "text"


def _arguments(command: Any) -> tuple[tuple[str, str], ...]:
    """Each argument and option with its explanation, without --help."""
    if command.context_settings.get("ignore_unknown_options"):
        # Another module reads them.
        return ()
    with command.make_context(command.name, [], resilient_parsing=True) as context:
        records = [param.get_help_record(context) for param in command.params if not param.hidden]
    return tuple((f"`{name}`", text.replace("<", "\\<")) for name, text in records)


def _tables(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A table, if there are rows."""
    lines = [" | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) for row in rows]
    if lines:
        yield "\n".join([f"| {title} | meaning |", "|---|---|", *(f"| {line} |" for line in lines)])


if __name__ == "__main__":
    print(page(), end="")
