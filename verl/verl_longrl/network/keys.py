"""The secrets by which the processes of one start know each other."""

import os
import secrets

MESSAGES, HTTP = "LONGRL_RUN_SECRET", "LONGRL_HTTP_KEY"
"""Environment variables. Two, for the second is sent in the clear where no TLS is, and says nothing about the first."""
BYTES = 32


def new() -> dict[str, str]:
    """Fresh values of both, as hexadecimal digits."""
    return {name: secrets.token_hex(BYTES) for name in (MESSAGES, HTTP)}


def check() -> None:
    """Raise RuntimeError where this process does not know both."""
    lacking = [name for name in (MESSAGES, HTTP) if not os.environ.get(name)]
    if lacking:
        raise RuntimeError(
            f"{' and '.join(lacking)} are not set in this process, so anybody could talk to it. They are made where a "
            "run is started, by `python -m recipe.longrl.main` and what calls it; report it if that is how this began"
        )
