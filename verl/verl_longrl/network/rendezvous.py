"""Let torch's TCPStore listen only on loopback if its address is loopback.

The store in which the ranks of a process group find each other listens on every interface, whatever its address, and
trusts every caller. It accepts a listening socket instead.
"""

import importlib
import socket
from functools import wraps
from typing import Any

from torch.distributed import TCPStore

LOOPBACK = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1"}


def register() -> None:
    """Restrict the stores that this process creates from now on."""
    # `import torch.distributed.rendezvous` would give the package's function of that name.
    rendezvous: Any = importlib.import_module("torch.distributed.rendezvous")
    rendezvous.TCPStore = loopback_store


@wraps(TCPStore)
def loopback_store(host_name: str, port: int, *args: Any, **kwargs: Any) -> TCPStore:
    """A TCPStore that listens only on loopback if its address is loopback."""
    if kwargs.get("is_master") and (address := LOOPBACK.get(host_name)):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = socket.create_server((address, port), family=family)
        except OSError:
            # This process has a store at the port already, which serves several groups; or torch reports the problem.
            return TCPStore(host_name, port, *args, **kwargs)
        kwargs["master_listen_fd"] = listener.detach()
    return TCPStore(host_name, port, *args, **kwargs)
