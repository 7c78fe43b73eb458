"""Keep Ray's authentication token private: anybody who has it can run code in the user's Ray.

Ray 2.60 creates ~/.ray/auth_token with the permissions of the umask, usually readable by all, and home folders may be
on a shared disk.
"""

import os
from pathlib import Path

from omegaconf import DictConfig

from recipe.longrl.preflight import cluster

TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables that select another token, or none."""


def make_token_private(config: DictConfig) -> None:
    """Make the token readable only for this user; call it before ray.init, which would create one."""
    from ray._private.authentication.authentication_token_setup import generate_and_save_token

    token = Path.home() / ".ray" / "auth_token"
    if token.exists():
        if token.stat().st_uid == os.getuid():
            token.chmod(0o600)
    elif cluster.starts_own_ray(config) and not any(os.environ.get(name) for name in TOKEN_VARIABLES):
        before = os.umask(0o077)
        try:
            generate_and_save_token()
        finally:
            os.umask(before)
