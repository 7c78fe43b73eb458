"""A configuration holds no secret: it is printed, stored beside what it made, and uploaded by loggers.

So a resolved one is refused where a value has a password or a key in an address, or the value of a secret variable
(which `${oc.env:HF_TOKEN}` in somebody's file would send to an address of theirs), or where a key's name says that its
value is a secret.
"""

import re
from collections.abc import Iterator
from typing import Any

from verl_longrl.secrets import is_secret, redact

VARIABLES = "env_vars"
"""A group whose keys are names of environment variables; other keys often end in _key or _token, and name a column of
the data or a piece of text."""

_KEYS = re.compile(
    r"secret|passw(or)?d|passphrase|credential|(api|access|private|auth|account|signing)_?key(?![a-z])"
    r"|((api|auth|access|bearer|session|refresh|hf|hub|huggingface|github|wandb)_|^)token$",
    re.IGNORECASE,
)
_PLACES = re.compile(r"_(env|file|path|dir)$", re.IGNORECASE)


class SecretSettingError(ValueError):
    """A configuration has a secret in it; the message names the key and the fix, and does not show the secret."""


def refuse(values: Any) -> None:
    """Raises SecretSettingError for the first secret in nested dictionaries and lists."""
    for path, value in _leaves(values, ()):
        key = path[-1] if path else ""
        variable = len(path) > 1 and path[-2] == VARIABLES
        named = is_secret(key) if variable else bool(_KEYS.search(key) and not _PLACES.search(key))
        if named or redact(value) != value:
            shown = "" if named else f" = {redact(value)}"
            raise SecretSettingError(
                f"{'.'.join(path)}{shown} is a secret, and configurations are printed, stored and uploaded. "
                f"Fix: leave it out, and {_instead(path, variable)}"
            )


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Key by key, each text that is not empty; items of a list have the list's key."""
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
        return f"export {path[-1]} where the run is started, which LONGRL_FORWARD_ENV={path[-1]} takes to every worker"
    if path[-1:] == ("endpoints",):
        return "export the key as the variable that api_key_env beside it names"
    return "export it as the environment variable that its library reads"
