"""Who may talk to the processes of a run: those that know its secrets, and on one machine nobody from outside.

verl's parts listen on the node's address and believe whoever calls: TransferQueue and the transfer of weights
unpickle what arrives, vLLM's HTTP servers generate for anybody. Here

- `messages.py`: ZeroMQ's sockets speak CURVE, so nothing is decoded that a stranger has sent;
- `http.py`: vLLM's servers and the router before them want a key;
- `rendezvous.py`: a process group whose address is loopback listens there alone.

The secrets are made for each start (`verl_longrl.secrets`). A process without them, such as verl on its own,
does as verl; a run of LongRL refuses to train without them (`check`).
"""

import os

from verl_longrl import secrets
from verl_longrl.network import http, messages, rendezvous


def register() -> None:
    """Guard what this process listens with from now on; once more changes nothing."""
    messages.register()
    http.register()
    rendezvous.register()


def check() -> None:
    """Raise RuntimeError where this process does not know the run's secrets."""
    if lacking := [name for name in secrets.RUN_KEYS if not os.environ.get(name)]:
        raise RuntimeError(
            f"{' and '.join(lacking)} are not set in this process, so anybody could talk to it. They are made where a "
            "run is started, by `python -m recipe.longrl.main` and what calls it"
        )
