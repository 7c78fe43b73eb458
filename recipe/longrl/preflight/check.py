"""One line of the preflight, and the table of all lines."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from textwrap import shorten
from typing import Literal

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from verl_longrl.secrets import redact

Status = Literal["ok", "warn", "FAIL"]
COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands, and in words what was found (and the fix)."""

    name: str
    status: Status
    detail: str


def collect(name: str, checks: Callable[[], Iterable[Check]]) -> list[Check]:
    """The lines of one group of checks; if it breaks, those it gave before and a FAIL with what broke it."""
    lines: list[Check] = []
    try:
        lines.extend(checks())
    except Exception as error:  # noqa: BLE001  whatever it is, the other checks go on and the user reads it
        lines.append(
            Check(name, "FAIL", f"this check broke with {describe(error)}; if the configuration is right, report this")
        )
    return lines


def describe(error: BaseException) -> str:
    """An exception in one line: its type and its message."""
    message = shorten(str(error), width=600, placeholder=" ...")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def failed(checks: list[Check]) -> bool:
    """Whether any check forbids starting."""
    return any(check.status == "FAIL" for check in checks)


def show(config: DictConfig, checks: list[Check]) -> None:
    """Print the table of checks."""
    table = Table(title=f"preflight: {config.trainer.experiment_name}", show_lines=False, title_justify="left")
    for column in ("check", "", "found"):
        table.add_column(column, overflow="fold")
    for check in checks:
        table.add_row(check.name, f"[{COLOURS[check.status]}]{check.status}[/]", escape(redact(check.detail)))
    Console().print(table)
