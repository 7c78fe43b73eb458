"""Separate command-line flags from Hydra overrides, and suggest the nearest flag for an unknown one.

Overrides never begin with a dash, so every argument that does is a flag. Overrides may also be in files
(`override_files`).
"""

import difflib
from collections.abc import Sequence

from recipe.longrl.override_files import expand_files
from recipe.longrl.settings import SettingsError
from recipe.longrl.versions import describe_versions


def split_flags(arguments: Sequence[str], known: Sequence[str]) -> tuple[set[str], list[str]]:
    """The flags and the overrides of a command line, also those in the YAML files that it names.

    Raises SettingsError for a flag that is not `known`, and for a file that cannot be read.
    """
    flags = [argument for argument in arguments if argument.startswith("-")]
    for flag in flags:
        if flag not in known:
            raise SettingsError(describe_unknown_flag(flag, known))
    return set(flags), expand_files([argument for argument in arguments if not argument.startswith("-")])


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
