"""Authenticate all connections between the processes of a run.

verl's processes listen on the node's address and trust every caller: TransferQueue and the weight transfer unpickle
whatever arrives, and vLLM's HTTP servers generate for anybody. Here

- `messages.py`: ZeroMQ sockets use CURVE, so messages of strangers are never decoded;
- `http.py`: vLLM's servers, and the router in front of them, require a key;
- `rendezvous.py`: a process group whose address is loopback listens only there.

The secrets are created for each start (`verl_longrl.secrets`). A process without them, such as one of plain verl, works
like verl's; a run of LongRL refuses to train without them (`require_secrets`).
"""

import os

from verl_longrl import secrets
from verl_longrl.network import http, messages, rendezvous


def register() -> None:
    """Secure everything on which this process listens from now on. Idempotent."""
    messages.register()
    http.register()
    rendezvous.register()


def require_secrets() -> None:
    """Raise RuntimeError if this process does not have the run's secrets."""
    if missing := [name for name in secrets.RUN_KEYS if not os.environ.get(name)]:
        raise RuntimeError(
            f"{' and '.join(missing)} are not set in this process, so anybody could connect to it. Fix: start the run "
            "with `python -m recipe.longrl.main`, which creates them"
        )
