"""The result of one check of the preflight, and the table of all results."""

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
    """One line of the table. detail: the finding in words, and the fix if there is a problem."""

    name: str
    status: Status
    detail: str


def collect(name: str, run_checks: Callable[[], Iterable[Check]]) -> list[Check]:
    """The lines of one group of checks. If it raises, those it gave before and a failure with the exception."""
    lines: list[Check] = []
    try:
        lines.extend(run_checks())
    except Exception as error:  # noqa: BLE001  a bug in one check must not hide the results of the others
        lines.append(Check(name, "FAIL", f"internal error in this check: {describe(error)}. Please report it"))
    return lines


def describe(error: BaseException) -> str:
    """An exception in one line: its type and its message."""
    message = shorten(str(error), width=600, placeholder=" ...")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def failed(checks: list[Check]) -> bool:
    """Whether the run must not start."""
    return any(check.status == "FAIL" for check in checks)


def show(config: DictConfig, checks: list[Check]) -> None:
    """Print the table of checks."""
    table = Table(title=f"preflight: {config.trainer.experiment_name}", show_lines=False, title_justify="left")
    for column in ("check", "", "result"):
        table.add_column(column, overflow="fold")
    for check in checks:
        table.add_row(check.name, f"[{COLOURS[check.status]}]{check.status}[/]", escape(redact(check.detail)))
    Console().print(table)
