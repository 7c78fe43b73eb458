"""Ray's token is for its owner alone: whoever has it can run code in every Ray of theirs.

Ray 2.60 writes ~/.ray/auth_token as the umask says, which mostly is for all to read, and homes may be on a disk that
many mount.
"""

import os
from pathlib import Path


def keep_private() -> None:
    """Before Ray is started or joined: have the token that it would make, or has made, readable for this user alone."""
    from ray._private.authentication.authentication_token_setup import generate_and_save_token

    token = Path.home() / ".ray" / "auth_token"
    if not token.exists():
        before = os.umask(0o077)
        try:
            generate_and_save_token()
        finally:
            os.umask(before)
    elif token.stat().st_uid == os.getuid():
        token.chmod(0o600)
