"""Refuse configurations that contain secrets: they are printed, stored with the outputs and uploaded by loggers.

A resolved configuration is refused if a value has a password or a key in an address, if a value is that of a secret
environment variable (`${oc.env:HF_TOKEN}` in a file from elsewhere could send it to a foreign address), or if a key's
name says that its value is a secret.
"""

import re
from collections.abc import Iterator
from typing import Any

from verl_longrl.options import OptionError
from verl_longrl.secrets import is_secret, redact

VARIABLES = "env_vars"
"""A group whose keys are names of environment variables. Elsewhere a key that ends in _key or _token often names a
column of the data or a piece of text."""

_KEYS = re.compile(
    r"secret|passw(or)?d|passphrase|credential|(api|access|private|auth|account|signing)_?key(?![a-z])"
    r"|((api|auth|access|bearer|session|refresh|hf|hub|huggingface|github|wandb)_|^)token$",
    re.IGNORECASE,
)
_PLACES = re.compile(r"_(env|file|path|dir)$", re.IGNORECASE)


class SecretSettingError(OptionError):
    """A configuration has a secret in it. The message names the key and the fix, and does not show the secret."""


def refuse_secrets(values: Any) -> None:
    """Raises SecretSettingError for the first secret in nested dictionaries and lists."""
    for path, value in _leaves(values, ()):
        key = path[-1] if path else ""
        variable = len(path) > 1 and path[-2] == VARIABLES
        named = is_secret(key) if variable else bool(_KEYS.search(key) and not _PLACES.search(key))
        if named or redact(value) != value:
            raise SecretSettingError(
                ".".join(path),
                "[hidden]" if named else redact(value),
                "this is a secret, and configurations are printed, stored and uploaded",
                f"leave it out, and {_instead(path, variable)}",
            )


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The path and value of each string that is not empty; items of a list have the list's path."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _leaves(value, path)
    elif isinstance(node, str) and node:
        yield path, node


def _instead(path: tuple[str, ...], variable: bool) -> str:
    if variable:
        return f"export {path[-1]} where the run is started; LONGRL_FORWARD_ENV={path[-1]} forwards it to every worker"
    if path[-1:] == ("endpoints",):
        return "export the key as the environment variable that api_key_env names"
    return "export it as the environment variable that its library reads"
