"""Ray's token is for its owner alone: whoever has it can run code in every Ray of theirs.

Ray 2.60 writes ~/.ray/auth_token as the umask says, which mostly is for all to read, and homes may be on a disk that
many mount.
"""

import os
from pathlib import Path

from omegaconf import DictConfig

from recipe.longrl.preflight import cluster

TOLD_OTHERWISE = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables that say which token is used, or that there is none."""


def keep_private(config: DictConfig) -> None:
    """Before ray.init: have the token that Ray would make, or has made, readable for this user alone."""
    from ray._private.authentication.authentication_token_setup import generate_and_save_token

    token = Path.home() / ".ray" / "auth_token"
    if token.exists():
        if token.stat().st_uid == os.getuid():
            token.chmod(0o600)
    elif cluster.starts_here(config) and not any(os.environ.get(name) for name in TOLD_OTHERWISE):
        before = os.umask(0o077)
        try:
            generate_and_save_token()
        finally:
            os.umask(before)
