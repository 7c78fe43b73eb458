"""A command line called in the test's own process, without the seconds that a new Python takes to import."""

import traceback
from collections.abc import Iterable

import typer
from typer.testing import CliRunner


def call(app: typer.Typer, arguments: Iterable[object]) -> tuple[int, str]:
    """Exit status and all that is printed, with the traceback of an error that nothing catches."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is None or isinstance(result.exception, SystemExit):
        return result.exit_code, result.output
    return result.exit_code, result.output + "".join(traceback.format_exception(result.exception))
